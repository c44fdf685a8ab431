"""A profile in the cost model: shares, what lies beyond what was measured, and profiles of other GPUs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from costs_shapes import A100, H100, LLAMA_8B, LLAMA_70B, NVLINK, PCIE4, UNKNOWN
from pydantic import ValidationError

from hexdsl.costs.efficiency import Efficiency, efficiency_of
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.network import all_reduce
from hexdsl.costs.predict import predict_tpot, predict_ttft
from hexdsl.costs.profile import with_profile
from hexdsl.costs.serving import Load, Stage, pipeline
from hexdsl.costs.stage import gpu_cost
from hexdsl.ir.spec.gpu import Gpu as GpuBlock
from hexdsl.ir.spec.profile import Profile, read_profile

BF16, FP8 = Formats(), Formats("fp8", "fp8")
MEASURED: dict[str, Any] = {
    "format_version": "1.0",
    "gpu": "NVIDIA H100 80GB HBM3",
    "memory_bytes": 85e9,
    "gemm": {"bf16": {"m": [1024, 4096], "flop_per_s": [5e14, 7e14]}},
    "weights_bytes_per_s": 2.68e12,
    "kv_bytes_per_s": 2.345e12,
    "attention": {"tokens": [1000, 4000], "flop_per_s": [2e14, 4e14]},
    "all_reduce": {"gpus": [2, 8], "start_s": [1e-5, 2e-5], "bus_bytes_per_s": [2e11, 4e11]},
}
CALIBRATION = {
    "source": "run.csv", "rows": 50, "factors": {"weights": 1.25, "compute": 2.0, "kv": 0.9, "network": 3.0},
    "layer_s": 1e-5, "request_s": 1e-6, "first_token_s": 0.01, "wait_steps": 0.5, "burst": 0.01,
}  # fmt: skip
BLOCK: dict[str, Any] = {"name": "mine", "memory": 80 * 2**30, "bandwidth": 3.35e12, "bf16": 989e12}


def profile(**changes: Any) -> Profile:
    return Profile.model_validate({**MEASURED, **changes})


def shares(of: Gpu = H100, **changes: Any) -> Efficiency:
    found = with_profile(of, profile(**changes)).profile
    assert found is not None
    return found


def test_rates_become_shares_of_the_blocks_peaks() -> None:
    found = shares()
    assert found.memory == pytest.approx(0.8)
    assert found.kv == pytest.approx(0.7)
    assert found.provenance == "profiled"
    assert gpu_cost(with_profile(H100, profile()), LLAMA_8B, BF16).provenance == "profiled"


def test_products_are_interpolated_at_the_rows_of_a_step() -> None:
    share, trust = shares().gemm_at("bf16")
    assert share == pytest.approx(6e14 / 989e12), "2048 lies halfway between 1024 and 4096 in the logarithm"
    assert trust == "profiled"


def test_products_that_were_not_measured_at_a_step_are_those_of_the_shipped_table() -> None:
    few = shares(gemm={"bf16": {"m": [1, 512], "flop_per_s": [1e12, 4e14]}})
    assert few.gemm_at("bf16") == efficiency_of("H100").gemm_at("bf16")
    assert shares().gemm_at("fp8") == efficiency_of("H100").gemm_at("fp8")


def test_a_format_that_nobody_measured_is_modelled() -> None:
    share, trust = shares(UNKNOWN, gpu="Accelerator X").gemm_at("fp8")
    assert trust == "modelled"
    assert 0 < share < 1


def test_attention_is_interpolated_inside_and_modelled_outside() -> None:
    found, base = shares(), efficiency_of("H100")
    assert float(found.attention_at(2000)) == pytest.approx(3e14 / 989e12)
    assert found.attention_trust(2000) == "profiled"
    assert found.attention_trust(np.array([2000, 16000])) == "modelled"
    ratio = float(base.attention_at(16000) / base.attention_at(4000))
    assert float(found.attention_at(16000)) == pytest.approx(ratio * 4e14 / 989e12), "goes on as the shipped curve does"
    assert float(found.attention_at(4000.01)) == pytest.approx(float(found.attention_at(4000)), rel=1e-3)


def test_predictions_say_where_they_leave_the_measured_range() -> None:
    line = pipeline([Stage((with_profile(H100, profile()),), 32)], [], LLAMA_8B, BF16)
    trust = {
        n: {t.name: t.provenance for t in predict_ttft(line, 1, Load(n, 100)).terms}["prefill"] for n in (2000, 9000)
    }
    assert trust == {2000: "profiled", 9000: "modelled"}
    terms = {t.name: t.provenance for t in predict_tpot(line, 8, Load(9000, 100)).terms}
    assert terms["weights"] == "profiled"
    assert terms["prefill of others"] == "modelled"


def test_measured_collectives_are_used_up_to_the_measured_number_of_gpus() -> None:
    gpu = with_profile(H100, profile())
    four = all_reduce([gpu] * 4, NVLINK)
    assert four.provenance == "profiled"
    assert 1e-5 < four.alpha_s < 2e-5
    assert all_reduce([gpu] * 16, NVLINK).provenance == "modelled"
    assert all_reduce([gpu] * 4, PCIE4).provenance == "modelled", "NVLink says nothing about PCIe"


def test_what_a_profile_lacks_is_not_called_profiled() -> None:
    assert shares(kv_bytes_per_s=None).provenance == "measured"
    assert shares(UNKNOWN, gpu="X", kv_bytes_per_s=None).provenance == "modelled"
    assert shares(attention=None).attention_trust(2000) == "measured"


def test_a_calibration_slows_each_part_by_its_factor() -> None:
    plain, fitted = (
        gpu_cost(with_profile(H100, p), LLAMA_8B, BF16) for p in (profile(), profile(calibration=CALIBRATION))
    )
    assert fitted.read_s == pytest.approx(1.25 * plain.read_s)
    assert fitted.token_s == pytest.approx(2 * plain.token_s)
    assert fitted.kv_read_s == pytest.approx(0.9 * plain.kv_read_s)
    assert float(fitted.efficiency.attention_at(2000)) == pytest.approx(float(plain.efficiency.attention_at(2000)) / 2)
    reduces = [all_reduce([with_profile(H100, p)] * 4, NVLINK) for p in (profile(), profile(calibration=CALIBRATION))]
    assert reduces[1].seconds(1e6) == pytest.approx(3 * reduces[0].seconds(1e6))


def test_fitted_overheads_reach_pipelines() -> None:
    fitted = with_profile(H100, profile(calibration=CALIBRATION))
    line = pipeline([Stage((fitted,), 80)], [], LLAMA_70B, BF16)
    assert line.overheads.layer_s == 1e-5
    assert line.overheads.provenance == "profiled"


def fitted_profile() -> Profile:
    return profile(calibration=CALIBRATION)


def test_a_mixed_group_has_the_larger_overheads() -> None:
    slow = with_profile(A100, profile(gpu="A100", calibration={**CALIBRATION, "layer_s": 9e-5}))
    line = pipeline([Stage((with_profile(H100, fitted_profile()), slow), 80, NVLINK)], [], LLAMA_70B, BF16)
    assert line.overheads.layer_s == 9e-5


def test_a_calibration_alone_is_a_profile() -> None:
    only = Profile.model_validate({"format_version": "1.0", "gpu": "H100", "calibration": CALIBRATION})
    found = with_profile(H100, only).profile
    assert found is not None
    assert found.memory == pytest.approx(efficiency_of("H100").memory / 1.25)
    undecided = only.with_(calibration={**CALIBRATION, "undetermined": ["weights"]})
    assert replace(with_profile(H100, undecided).profile or found).provenance == "measured"


@pytest.mark.parametrize(
    ("block", "changes", "reason"),
    [
        ({"name": "H200"}, {}, "it is the profile of `NVIDIA H100 80GB HBM3`"),
        ({"memory": 141e9}, {}, "GB of memory"),
        ({"bandwidth": 2.0e12}, {}, "reads memory at 2680GB/s"),
        ({"bandwidth": 8e12}, {}, "reads memory at 2680GB/s"),
        ({"bf16": 312e12}, {}, "multiplies bf16 at 700TFLOP/s"),
    ],
)
def test_a_profile_of_another_gpu_is_refused(block: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match="another GPU") as caught:
        GpuBlock.model_validate({**BLOCK, **block, "profile": profile(**changes)})
    assert reason in str(caught.value)
    assert caught.value.errors()[0]["loc"] == ("profile",)


@pytest.mark.parametrize("name", ["mine", "H100", "H100_PCIE", "big_h100", "node0"])
def test_a_profile_of_this_gpu_is_taken(name: str) -> None:
    assert GpuBlock.model_validate({**BLOCK, "name": name, "profile": profile()}).profile == profile()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"format_version": NaN}', "NaN is no number"),
        ("[" * 100_000, "nested"),
        ('{"format_version": "9", "gpu": "X"}', "format_version"),
        ('{"format_version": "1.0", "gpu": "X"}', "no measurement"),
        ('{"format_version": "1.0", "gpu": "X", "weights_bytes_per_s": -1}', "weights_bytes_per_s"),
        (json.dumps({**MEASURED, "gemm": {"bf16": {"m": [2, 1], "flop_per_s": [1, 1]}}}), "must rise"),
        (json.dumps({**MEASURED, "gemm": {"bf16": {"m": [1, 2], "flop_per_s": [1]}}}), "one length"),
        (json.dumps({**MEASURED, "gemm": {"bf17": {"m": [1], "flop_per_s": [1]}}}), "gemm"),
        (json.dumps({**MEASURED, "speed": 3}), "speed"),
    ],
)
def test_a_file_that_is_no_profile_says_why(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_profile(text.encode())


def test_a_profile_survives_json() -> None:
    made = profile(calibration=CALIBRATION)
    assert read_profile(json.dumps(made.model_dump(mode="json", exclude_defaults=True)).encode()) == made


def test_larger_groups_fall_back_to_the_shipped_table() -> None:
    few = profile(gpu="NVIDIA H100", all_reduce={"gpus": [2], "start_s": [1e-5], "bus_bytes_per_s": [2e11]})
    mine = with_profile(replace(H100, name="mine"), few)
    assert all_reduce([mine] * 2, NVLINK).provenance == "profiled"
    assert all_reduce([mine] * 8, NVLINK) == replace(all_reduce([H100] * 8, NVLINK), provenance="measured")
