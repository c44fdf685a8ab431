"""The fit to measured runs: known coefficients come back, unknowable ones are named, validation is honest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from costs_shapes import H100, LLAMA_8B, LLAMA_70B, NVLINK

from hexdsl.costs.arch import Arch
from hexdsl.costs.calibrate import START_TERMS, STEP_TERMS, Coefficients, Runs, calibrate, fit
from hexdsl.costs.gpu import Formats
from hexdsl.costs.point import Replica
from hexdsl.costs.predict import predict_tpot
from hexdsl.costs.profile import tpot_band, with_profile
from hexdsl.costs.serving import Load
from hexdsl.ir.spec.profile import Profile

TRUTH = Coefficients(np.array([1.3, 1.4, 1.2, 1.5, 0.6, 2.0]), np.array([2.0, 0.5, 1.5]))
BATCHES = np.array([1, 4, 16, 64, 128], dtype=float)
LOADS = ((200, 100), (1000, 200), (4000, 500), (500, 1000))


def runs(arch: Arch, tp: int, truth: Coefficients = TRUTH, noise: float = 0.0, ttft: bool = True) -> Runs:
    """Points of a replica that behaves as `truth` says."""
    line = Replica(arch, H100, Formats(), tp, 1, NVLINK).line()
    prompt, output, running = (
        np.array(x, dtype=float) for x in zip(*((p, o, b) for p, o in LOADS for b in BATCHES), strict=True)
    )
    load, real = Load(prompt, output), truth.line(line)
    scatter = np.random.default_rng(1).normal(1.0, noise, (2, len(running)))
    first = real.ttft(running, load)[1] * scatter[1]
    tpot = real.tpot(running, load) * scatter[0]
    return Runs(
        f"{arch.layers} layers, tp {tp}",
        line,
        load,
        running,
        tpot,
        first if ttft else first * np.nan,
        (0.9, 0.9, 0.9, 0.1),
    )


def several(noise: float = 0.0) -> list[Runs]:
    return [runs(arch, tp, noise=noise) for arch, tp in ((LLAMA_8B, 1), (LLAMA_70B, 4), (LLAMA_70B, 8))]


def test_known_coefficients_come_back() -> None:
    found = fit(several()).coefficients
    assert found.step == pytest.approx(TRUTH.step, rel=0.12)
    assert found.start == pytest.approx(TRUTH.start, rel=0.12)


def test_predictions_come_back_more_exactly_than_coefficients() -> None:
    found = fit(several()).coefficients
    for run in several():
        assert found.line(run.line).tpot(run.running, run.load) == pytest.approx(run.tpot, rel=0.03)


def test_one_gpu_says_nothing_about_collectives() -> None:
    found = fit([runs(LLAMA_8B, 1)])
    assert "network" in found.undetermined
    assert found.coefficients.step[STEP_TERMS.index("network")] == pytest.approx(1.0)
    assert "weights" not in found.undetermined


def test_without_ttft_nothing_is_said_about_the_start() -> None:
    found = fit([runs(LLAMA_8B, 1, ttft=False)])
    assert set(START_TERMS) <= set(found.undetermined)
    assert found.coefficients.start == pytest.approx(np.ones(3))


def test_a_share_of_the_peak_never_passes_one() -> None:
    impossible = replace(TRUTH, step=np.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.0]))
    found = fit([runs(LLAMA_70B, 8, impossible)])
    assert found.coefficients.step[0] >= 0.9 - 1e-9
    assert "weights" in found.limited


def test_validation_is_on_rows_that_were_left_out() -> None:
    made = calibrate(several(noise=0.05), "run.csv")
    found = {(v.metric, v.left_out): v for v in made.validation}
    assert {m for m, _ in found} == {"tpot", "ttft"}
    for v in found.values():
        assert v.after.rows == v.before.rows == 60
        assert v.after.mape < v.before.mape
    assert 2 < found["tpot", "a 5th of the rows"].after.mape < 8, "noise of 5 % has a mean size of 4 %"


def test_a_fit_to_noise_does_not_claim_to_help() -> None:
    honest = Coefficients(np.ones(6), np.ones(3))
    made = calibrate([runs(LLAMA_8B, 1, honest, noise=0.3)], "run.csv")
    tpot = next(v for v in made.validation if v.metric == "tpot")
    assert tpot.after.mape > 0.9 * tpot.before.mape


def test_equal_runs_give_equal_bytes() -> None:
    assert calibrate(several(0.05), "a").model_dump_json() == calibrate(several(0.05), "a").model_dump_json()


def test_a_spec_that_names_the_calibration_predicts_what_was_fitted() -> None:
    measured: Sequence[Runs] = several()
    made = calibrate(measured, "run.csv")
    file = Profile.model_validate({"format_version": "1.0", "gpu": "H100", "calibration": made})
    gpu = with_profile(H100, file)
    found = fit(measured).coefficients
    for arch, tp, run in ((LLAMA_8B, 1, measured[0]), (LLAMA_70B, 8, measured[2])):
        line = Replica(arch, gpu, Formats(), tp, 1, NVLINK).line()
        assert line.tpot(run.running, run.load) == pytest.approx(
            found.line(run.line).tpot(run.running, run.load), rel=1e-3
        )
        assert line.ttft(run.running, run.load)[1] == pytest.approx(
            found.line(run.line).ttft(run.running, run.load)[1], rel=1e-3
        )


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.05, 0.06), (0.03, 0.05, 0.1), (0.3, 0.3, 0.6)])
def test_the_range_of_tpot_is_what_left_out_rows_support(noise: float, low: float, high: float) -> None:
    made = calibrate(several(noise), "run.csv")
    file = Profile.model_validate({"format_version": "1.0", "gpu": "H100", "calibration": made})
    line = Replica(LLAMA_70B, with_profile(H100, file), Formats(), 8, 1, NVLINK).line()
    found = predict_tpot(line, 16, Load(1000, 200))
    assert low - 1e-9 <= found.high / found.value - 1 <= high + 1e-9


def test_few_rows_and_rows_of_one_replica_do_not_narrow_the_range_as_far() -> None:
    alone = calibrate([runs(LLAMA_8B, 1)], "run.csv")
    assert tpot_band(alone) == pytest.approx(0.1)
    few = calibrate([runs(LLAMA_8B, 1).only(np.arange(20) < 6)], "run.csv")
    assert tpot_band(few) is None
