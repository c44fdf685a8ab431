"""Traces: every format that is read, and what is said of those that cannot be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hexdsl.ir.trace import TraceError
from hexdsl.sim.arrivals import constant, gamma, poisson, weibull
from hexdsl.sim.trace import read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.9000000,374,44\n2023-11-17 00:00:01.2000000,396,9\n"
)
MOONCAKE = '{"timestamp": 500, "input_length": 600, "output_length": 5, "hash_ids": [0, 4]}\n'
PLAIN = "arrival,prompt,output\n"


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_azure(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, AZURE))
    assert [(r.arrival_s, r.prompt, r.output) for r in trace.requests] == [(0.0, 374, 44), (1.3, 396, 9)]


def test_mooncake(tmp_path: Path) -> None:
    later = MOONCAKE.replace("500", "1500").replace("[0, 4]", "[0, 7]")
    trace = read_trace(written(tmp_path, MOONCAKE + "\n" + later, "t.jsonl"))
    assert [(r.arrival_s, r.blocks) for r in trace.requests] == [(0.0, (0, 4)), (1.0, (0, 7))]


def test_vidur_with_and_without_times(tmp_path: Path) -> None:
    timed = written(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n2.5,10,20\n")
    bare = written(tmp_path, "num_prefill_tokens,num_decode_tokens\n10,20\n11,21\n", "bare.csv")
    assert read_trace(timed).requests[0].output == 20
    with pytest.raises(TraceError, match="no column of arrival times"):
        read_trace(bare)
    moved = read_trace(bare, timed=False).arriving_at([1.0, 4.0])
    assert [r.arrival_s for r in moved.requests] == [1.0, 4.0]


def test_a_column_map(tmp_path: Path) -> None:
    path = written(tmp_path, "t,kind,in,out,p\n0,chat,5,6,1\n1,code,7,8,0\n")
    columns = {"arrival": "t", "prompt": "in", "output": "out", "class": "kind", "priority": "p"}
    found = read_trace(path, columns).requests
    assert [(r.klass, r.prompt, r.output, r.priority) for r in found] == [("chat", 5, 6, 1), ("code", 7, 8, 0)]


def test_windows_start_evenly_apart_and_at_zero(tmp_path: Path) -> None:
    rows = "".join(f"{i + 5},{i + 1},1\n" for i in range(10))
    trace = read_trace(written(tmp_path, PLAIN + rows))
    windows = [trace.window(3, number, 3) for number in range(3)]
    assert [[r.prompt for r in w] for w in windows] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert {w[0].arrival_s for w in windows} == {0.0}
    assert [r.arrival_s for r in windows[2]] == [0.0, 1.0, 2.0]


def test_json_lines_are_known_by_their_first_character(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, MOONCAKE, "t.log")).requests[0].blocks == (0, 4)


def test_scaling_and_limit(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN + "0,1,1\n2,1,1\n4,1,1\n")
    assert [r.arrival_s for r in read_trace(path, limit=2).scaled(0.5).requests] == [0.0, 1.0]
    with pytest.raises(ValueError, match="above zero"):
        read_trace(path).scaled(0.0)


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("", None, "no requests"),
        (PLAIN, None, "no requests"),
        ("a,b\n1,2\n", 1, "no known format"),
        (PLAIN + "0,5,6\n1,-5,6\n", 3, "prompt is '-5'"),
        (PLAIN + "0,5,0\n", 2, "output is '0'"),
        (PLAIN + "0,5,nan\n", 2, "output is 'nan'"),
        (PLAIN + "nan,5,6\n", 2, "arrival is 'nan'"),
        (PLAIN + "0,5,6\ninf,5,6\n", 3, "arrival is 'inf'"),
        (PLAIN + "0,5,6\n2023-11-16,5,6\n", 3, "arrival is '2023-11-16'"),
        (PLAIN + "0,5.5,6\n", 2, "prompt is '5.5'"),
        (PLAIN + "0,5\n", 2, "output is missing"),
        (PLAIN + "yesterday,5,6\n", 2, "arrival is 'yesterday'"),
        (PLAIN + "0,1e999,6\n", 2, "prompt is '1e999'"),
        (PLAIN + "1,5,6\n0,5,6\n", 3, "arrives before the one above"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, text: str, row: int | None, message: str) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        read_trace(written(tmp_path, text))
    assert caught.value.line == row
    assert caught.value.help


@pytest.mark.parametrize("line", ["[1]", "{", "3", "[" * 100_000, MOONCAKE.replace("[0, 4]", '["x"]')])
def test_bad_json_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(written(tmp_path, MOONCAKE + line.strip() + "\n", "t.jsonl"))
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "prompt"}, "lacks output"),
        ({"prompt": "prompt", "output": "out", "arrival": "arrival"}, "no column `out`"),
        ({"prompt": "prompt", "output": "output", "colour": "x"}, "`colour` is nothing that a trace holds"),
    ],
)
def test_bad_maps_are_named(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_trace(written(tmp_path, PLAIN + "0,1,1\n"), columns)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, PLAIN + "0,1,1\n")
    monkeypatch.setattr("hexdsl.ir.trace.LARGEST", 20)
    with pytest.raises(TraceError, match="larger than"):
        read_trace(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"arrival,prompt,output\n0,1,\xe9\n")
    for name in ("none.csv", "latin.csv", "."):
        with pytest.raises(TraceError, match="cannot be read"):
            read_trace(tmp_path / name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["t.csv", "t.jsonl"]))
def test_any_bytes_give_a_trace_or_a_trace_error(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"arrival,prompt,output\n" + content if name == "t.csv" else content)
    with contextlib.suppress(TraceError):
        assert read_trace(path).requests


@pytest.mark.parametrize(
    ("draw", "cv"),
    [
        (lambda rng: poisson(4.0, 40_000, rng), 1.0),
        (lambda rng: gamma(4.0, 2.0, 40_000, rng), 2.0),
        (lambda rng: weibull(4.0, 2.0, 40_000, rng), 0.5227),
        (lambda rng: constant(4.0, 40_000), 0.0),
    ],
)
def test_arrivals_have_their_rate_and_their_burstiness(draw, cv: float) -> None:  # type: ignore[no-untyped-def]
    gaps = np.diff(draw(np.random.default_rng(3)), prepend=0.0)
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.03)


DATA = Path(os.environ.get("HEXC_DATA", Path(__file__).parents[3] / "shared" / "data")) / "traces"


@pytest.mark.skipif(not DATA.is_dir(), reason="no traces: set HEXC_DATA")
@pytest.mark.parametrize(("pattern", "count"), [("azure_2023_conv.csv", 19366), ("mooncake*.jsonl", 300)])
def test_real_traces(pattern: str, count: int) -> None:
    assert len(read_trace(next(DATA.glob(pattern))).requests) == count
