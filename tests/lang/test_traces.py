"""What a workload takes from its trace: the figures are those of numpy, and what is written beside it counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hexdsl.api import load, load_json, load_text
from hexdsl.ir.spec.workload import LOADS, SHARES, Constant, Empirical, Poisson, Recorded, Workload
from hexdsl.ir.trace import Rows, read_rows

SCORES = {0.5: 0.0, 0.9: 1.2815515655446004, 0.95: 1.6448536269514722, 0.99: 2.3263478740408408}
"""Standard normal scores of percentiles."""

DATA = Path(os.environ.get("HEXC_DATA", Path(__file__).parents[3] / "shared" / "data")) / "traces"


def agree(rows: Rows) -> None:
    """Whether the figures that planning uses are those of the rows."""
    for lengths in (rows.prompt, rows.output):
        found = Empirical.of(lengths)
        assert found.mean == pytest.approx(np.mean(lengths), rel=1e-5)
        assert found.cv == pytest.approx(np.std(lengths) / np.mean(lengths), rel=1e-5, abs=1e-9)
        assert found.quantiles == pytest.approx(np.quantile(lengths, SHARES), rel=1e-5)
        for share, score in SCORES.items():
            assert found.quantile(score) == pytest.approx(np.quantile(lengths, share), rel=1e-5)
    times = np.array(rows.arrival_s)
    arrivals, gaps = Recorded.of(times.tolist()), np.diff(times)
    if arrivals is None:
        assert not gaps.any()
        return
    assert arrivals.rate == pytest.approx(1 / gaps.mean(), rel=1e-5)
    assert arrivals.cv == pytest.approx(gaps.std() / gaps.mean(), rel=1e-5, abs=1e-9)
    for busy, cv in zip(LOADS, arrivals.queued, strict=True):
        assert wait_of(busy, cv) == pytest.approx(waited(gaps, busy * gaps.mean()), rel=1e-4, abs=1e-9)


def waited(gaps: NDArray[np.float64], service: float) -> float:
    """Mean wait in services, from the lowest point that the work has come to before each arrival (reflection)."""
    work = np.concatenate([[0.0], np.cumsum(service - gaps)])
    return float((work - np.minimum.accumulate(work)).mean() / service)


def wait_of(busy: float, cv: float) -> float:
    """Mean wait in services: Allen-Cunneen up to a variation of 1, beyond it batches of geometric size."""
    return (busy * min(1.0, cv**2) + max(0.0, cv**2 - 1)) / (2 * (1 - busy))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 10**6), st.integers(1, 10**5)), min_size=2, max_size=80))
def test_figures_are_those_of_the_rows(drawn: list[tuple[float, int, int]]) -> None:
    times = np.cumsum([round(gap, 6) for gap, _, _ in drawn])
    agree(Rows(tuple(p for _, p, _ in drawn), tuple(o for _, _, o in drawn), tuple(times.tolist())))


@pytest.mark.skipif(not DATA.is_dir(), reason="no traces: set HEXC_DATA")
@pytest.mark.parametrize("name", ["azure_2023_code.csv", "azure_2023_conv.csv", "mooncake_conversation_head300.jsonl"])
def test_figures_of_real_traces(name: str) -> None:
    agree(read_rows((DATA / name).read_bytes(), name))


def test_tokens_that_earlier_requests_began_with() -> None:
    blocks = ((1, 2), (1, 2, 3), (9, 2), (1,))
    assert Rows((1000, 1400, 1024, 300), (1, 1, 1, 1), None, blocks).repeated == (1024 + 300) / 3724
    assert Rows((5,), (5,)).repeated == 0


def test_poisson_arrivals_feel_like_poisson_arrivals() -> None:
    times = np.cumsum(np.random.default_rng(0).exponential(0.1, 100_000))
    found = Recorded.of(times.tolist())
    assert found is not None
    assert found.rate == pytest.approx(10, rel=0.01)
    assert found.cv == pytest.approx(1, rel=0.01)
    assert found.queued[:4] == pytest.approx([1.0] * 4, abs=0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a trace of two requests a second."""
    rows = "".join(f"{i / 2},{100 + i},{10 + i}\n" for i in range(21))
    (tmp_path / "day.csv").write_text("arrival,prompt,output\n" + rows, encoding="utf-8")
    return tmp_path


def workloads(folder: Path, text: str) -> tuple[Workload, ...]:
    (folder / "a.hex").write_text(text, encoding="utf-8")
    return load(folder / "a.hex").spec.workloads


def test_a_trace_gives_what_is_not_written(folder: Path) -> None:
    found, own = workloads(
        folder,
        'workload a { trace = "day.csv" }\n'
        'workload b { trace = "day.csv", arrivals = poisson(5req/s), prompt = 7tok }\n',
    )
    assert (found.arrivals.rate, found.prompt.mean, found.output.mean) == (2.0, 110.0, 20.0)  # type: ignore[union-attr]
    assert isinstance(own.arrivals, Poisson)
    assert (own.prompt.mean, own.output.mean) == (7.0, 20.0)


def test_speed_scales_the_rate_and_nothing_else(folder: Path) -> None:
    once, thrice = workloads(folder, 'workload a { trace = "day.csv" }\nworkload b { trace = "day.csv", speed = 3 }\n')
    assert isinstance(once.arrivals, Recorded)
    assert isinstance(thrice.arrivals, Recorded)
    assert thrice.arrivals == once.arrivals.with_(rate=3 * once.arrivals.rate)
    assert thrice.prompt == once.prompt


def test_another_trace_replaces_all_that_the_base_took(folder: Path) -> None:
    (folder / "night.csv").write_text("arrival,prompt,output\n0,5,6\n4,5,6\n", encoding="utf-8")
    day, night = workloads(folder, 'workload a { trace = "day.csv" }\nworkload b : a { trace = file("night.csv") }\n')
    assert (day.prompt.mean, night.prompt.mean) == (110.0, 5.0)
    assert night.arrivals is not None
    assert night.arrivals.rate == 0.25


def test_a_closed_loop_needs_no_times(folder: Path) -> None:
    (folder / "bare.csv").write_text("in,out\n5,6\n", encoding="utf-8")
    (found,) = workloads(
        folder, 'workload a { trace = "bare.csv", columns = { prompt = "in", output = "out" }, clients = 4 }\n'
    )
    assert found.arrivals is None
    assert found.output.mean == 6.0


def test_the_figures_are_small_and_survive_json(folder: Path) -> None:
    (folder / "a.hex").write_text('workload a { trace = "day.csv" }\n', encoding="utf-8")
    spec = load(folder / "a.hex").spec
    assert load_json(spec.canonical(), folder=folder).spec.digest() == spec.digest()
    assert len(spec.canonical()) < 4000


def test_words_for_what_a_trace_gives_cannot_be_written() -> None:
    for line in ("prompt = empirical(5)", "arrivals = recorded(2req/s)"):
        with pytest.raises(Exception, match="is not known here"):
            load_text(f"workload a {{ {line} }}\n", "a.hex")


def test_a_trace_is_checked_without_numpy(folder: Path) -> None:
    (folder / "a.hex").write_text('workload a { trace = "day.csv" }\n', encoding="utf-8")
    program = "import sys; from hexdsl.cli import main; main(['check', 'a.hex']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=folder, check=False).returncode == 0


@pytest.mark.parametrize(("arrivals", "cv"), [(Poisson(rate=1), 1.0), (Constant(rate=1), 0.0)])
def test_variation_of_arrivals(arrivals: Poisson | Constant, cv: float) -> None:
    assert arrivals.cv == cv
