"""Step times: from the analytic cost model, and from measured tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.serving import Load, Stage, pipeline
from hexdsl.sim.analytic import AnalyticSteps
from hexdsl.sim.measured import Attention, MeasuredSteps, Skew, merged
from hexdsl.sim.request import ClosedLoop, Request
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Cluster, EngineSpec, ReplicaSpec
from hexdsl.sim.steps import Batch
from hexdsl.sim.tables import ONCE, PER_LAYER, SAMPLING, TableError, read_skew, read_tables, skew_default

ARCH = Arch(32, 4096, 32, 8, 128, 14336, 128256)
BIG = Gpu("h100_sxm", 80e9, 3.35e12, {"bf16": 989e12})
SMALL = Gpu("l40s", 48e9, 864e9, {"bf16": 362e12})


def steps_of(*stages: Stage, hops: tuple[Link, ...] = ()) -> AnalyticSteps:
    return AnalyticSteps(pipeline(stages, hops, ARCH, Formats()))


def test_a_decode_step_costs_what_the_cost_model_says() -> None:
    line = pipeline([Stage((BIG,), 32)], [], ARCH, Formats())
    found = AnalyticSteps(line).seconds(Batch(16, 16 * 1000, 1000, 1000))
    assert found[0] == pytest.approx(float(line.tpot(16.0, Load(1000.0 - 1e-9, 2e-9), prefill=False)), rel=1e-6)


def test_a_prompt_in_one_chunk_costs_what_the_cost_model_says() -> None:
    line = pipeline([Stage((BIG,), 32)], [], ARCH, Formats())
    found = AnalyticSteps(line).seconds(Batch(0, 0, 0, 0, ((1600, 0),)))
    assert found[0] == pytest.approx(float(line.first_token(1600.0)), rel=0.01)


def test_chunks_add_up() -> None:
    """Attention of a prompt is the same in one chunk or two; the rest is paid by step and by token."""
    steps = steps_of(Stage((BIG,), 32))
    whole = steps.seconds(Batch(0, 0, 0, 0, ((2048, 0),)))[0]
    parts = sum(steps.seconds(Batch(0, 0, 0, 0, (chunk,)))[0] for chunk in ((1024, 0), (1024, 1024)))
    assert whole < parts < 1.3 * whole


def test_stages_and_links_alternate_and_the_slowest_gpu_sets_the_pace() -> None:
    steps = steps_of(Stage((BIG,), 20), Stage((SMALL,), 12), hops=(Link(1e9, 5e-6),))
    batch = Batch(8, 8000, 1000, 1000)
    big, link, small = steps.seconds(batch)
    assert steps.stages == 2
    assert steps.latency_s == (0.0, 5e-6, 0.0)
    assert link == pytest.approx(8 * 4096 * 2 / 1e9)
    assert big < small
    mixed, same = (steps_of(Stage(gpus, 32)).seconds(batch)[0] for gpus in ((BIG, SMALL), (SMALL, SMALL)))
    assert mixed == pytest.approx(same, rel=0.02)


def test_contexts_beyond_the_table_are_priced_too() -> None:
    steps = steps_of(Stage((BIG,), 32))
    times = [steps.seconds(Batch(0, 0, 0, 0, ((512, past),)))[0] for past in (0, 20_000, 200_000)]
    assert times[0] < times[1] < times[2]


GRID = {(0, 0, n, kv): n * kv * 1e-6 for n in (1, 4) for kv in (16, 1024)}
GRID |= {(64, past, 0, 0): 64 * (past + 32) * 1e-6 for past in (0, 256)}


def test_attention_is_linear_between_points_and_beyond_them() -> None:
    attention = Attention(GRID)
    assert attention.seconds(0, 0, 1, 520) == pytest.approx(520e-6)
    assert attention.seconds(0, 0, 4, 2048) == pytest.approx(4 * 2048e-6)
    assert attention.seconds(64, 128, 0, 0) == pytest.approx(64 * 160e-6)


def test_what_was_not_measured_together_is_added() -> None:
    attention = Attention(GRID)
    both = attention.seconds(64, 0, 4, 1024)
    assert both == pytest.approx(attention.seconds(64, 0, 0, 0) + attention.seconds(0, 0, 4, 1024))


def test_merged_chunks_attend_to_as_many_pairs() -> None:
    tokens, history = merged([(100, 400), (300, 0)])
    assert tokens == 400
    assert tokens * (history + tokens / 2) == pytest.approx(max(100 * 450 + 300 * 150, 400 * 200))


def test_skew_goes_part_of_the_way_to_the_longest() -> None:
    flat = ([1, 2048], [0.0, 0.0])
    steps = MeasuredSteps(10, flat, flat, Attention(GRID), Skew(0.5))
    even, uneven = (steps.seconds(Batch(4, 2000, low, high))[0] for low, high in ((500, 500), (100, 900)))
    assert even == pytest.approx(10 * 4 * 500e-6)
    assert uneven == pytest.approx(10 * 4 * 700e-6)


def tables(folder: Path, change: dict[str, str] | None = None) -> Path:
    """A small profile; `change` replaces files."""
    dense = "".join(f"{op},{n},{n}\n" for op in (*PER_LAYER, *ONCE) for n in (1, 64))
    sampling = "".join(f"{op},{n},{n}\n" for op in SAMPLING for n in (1, 64))
    texts = {
        "dense.csv": "layer,tokens,time_us\n" + dense,
        "per_sequence.csv": "layer,sequences,time_us\n" + sampling,
        "attention.csv": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,5\n0,0,2,16,9\n",
        **(change or {}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def test_tables_add_up_to_a_step(tmp_path: Path) -> None:
    """Nine calls a layer, two operators once, head and sampler; then one attention a layer."""
    steps = read_tables(tables(tmp_path), layers=3)
    dense, sampling, attention = 2 * (3 * 9 + 2), 2 * 2, 3 * 9
    assert steps.seconds(Batch(2, 32, 16, 16))[0] == pytest.approx((dense + sampling + attention) * 1e-6)


@pytest.mark.parametrize(
    ("change", "row", "message"),
    [
        ({"dense.csv": "layer,tokens,time_us\nlayernorm,1,2\n"}, None, "no times for qkv_proj"),
        ({"dense.csv": "layer,tokens\n"}, 1, "no column time_us"),
        ({"attention.csv": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,nan\n"}, 2, "`nan`"),
        ({"per_sequence.csv": "layer,sequences,time_us\nlm_head,1,-4\n"}, 2, "`-4`"),
        ({"attention.csv": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"}, None, "no rows"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, change: dict[str, str], row: int | None, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        read_tables(tables(tmp_path, change), layers=2)
    assert caught.value.row == row


def test_skew_is_read_by_the_bounds_in_its_labels(tmp_path: Path) -> None:
    head = "pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples\n"
    rows = (
        "0,n<=8,sr<=15%,kvB<=4k,kp=0,0.2,4\n0,n<=64,sr<=70%,kvB<=16k,kp=0,0.7,4\n64,n<=8,sr<=15%,kvB<=4k,kp=0,0.9,4\n"
    )
    (tmp_path / "skew_fit.csv").write_text(head + rows)
    skew = read_skew(tmp_path, default=0.05)
    assert skew.share(8, 0.1, 4096, chunks=False) == 0.2
    assert skew.share(9, 0.5, 5000, chunks=False) == 0.7
    assert skew.share(9, 0.1, 4096, chunks=False) == 0.05
    assert skew.share(8, 0.1, 4096, chunks=True) == 0.05
    (tmp_path / "skew_fit.csv").write_text(head + "0,eight,sr<=15%,kvB<=4k,kp=0,0.2,4\n")
    with pytest.raises(TableError, match="`eight`"):
        read_skew(tmp_path, default=0.05)


def test_a_profile_may_switch_the_skew_off(tmp_path: Path) -> None:
    meta = tmp_path / "meta.yaml"
    shares = "    1:\n      n: 3\n      alpha_default: 0.05\n    2:\n      alpha_default: 0.06\n"
    text = "a: 1\nskew_fit:\n  enabled: {}\n  per_tp:\n" + shares
    meta.write_text(text.format("true"))
    assert [skew_default(meta, tp) for tp in (1, 2, 4)] == [0.05, 0.06, None]
    meta.write_text(text.format("false"))
    assert skew_default(meta, 1) is None
    assert skew_default(tmp_path / "none.yaml", 1) is None


@pytest.mark.parametrize(("prompt", "output", "seats"), [(512, 128, 32), (2000, 200, 32), (200, 500, 64)])
def test_a_pipeline_under_load_takes_the_steps_that_the_model_predicts(prompt: int, output: int, seats: int) -> None:
    """Chunked prompts in a pipeline of four stages: the model's bubbles are on the safe side, but not by much."""
    stages, hops = [Stage((BIG,), 8)] * 4, [Link(450e9)] * 3
    line = pipeline(stages, hops, ARCH, Formats())
    load = Load(prompt, output)
    budget = int(line.budget(seats, load))
    rng = np.random.default_rng(1)
    spread = rng.lognormal(-0.15, 0.55, (16 * seats, 2))
    requests = [
        Request(i, 0.0, max(1, int(prompt * a)), max(1, int(output * b))) for i, (a, b) in enumerate(spread.tolist())
    ]
    engine = EngineSpec(blocks=10**6, max_num_seqs=seats, max_num_batched_tokens=budget)
    found = simulate(ClosedLoop(requests, seats), Cluster((ReplicaSpec("r", engine, AnalyticSteps(line)),)))
    ends = np.sort(found.finish_s)
    low, high = ends[len(ends) // 5], ends[len(ends) * 4 // 5]
    rate = 0.6 * len(ends) / (high - low)
    assert 0.97 <= rate / float(line.rate(seats, load)) <= 1.2
