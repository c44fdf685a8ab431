"""Checkpoints of AWQ, GPTQ, compressed-tensors, fp8 and mxfp4 come out as the numbers that their writers meant.

Each format's writer is written here, from its published rule and bit by bit, and shares no code with the importers.
"""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hexdsl.kernels.mixed_precision.checkpoint import import_layers
from hexdsl.kernels.mixed_precision.formats import Codes
from hexdsl.kernels.mixed_precision.from_awq import from_awq
from hexdsl.kernels.mixed_precision.from_compressed_tensors import (
    config_group,
    from_compressed_tensors,
    from_fp8,
    from_mxfp4,
)
from hexdsl.kernels.mixed_precision.from_gptq import from_gptq
from hexdsl.kernels.mixed_precision.layout import pack
from hexdsl.kernels.mixed_precision.linear import weight_only_linear
from hexdsl.kernels.mixed_precision.reference import dequantise

N, K = 24, 256


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def words(codes: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """Rows of codes as 32-bit words along the last axis, field i at bit `bits * i`, holding code `order[i]`."""
    count = 32 // bits
    rows, width = codes.shape
    packed = np.zeros((rows, -(-width // count)), dtype=np.uint64)
    for word in range(packed.shape[1]):
        for field in range(count):
            column = word * count + (order[field] if order else field)
            if column < width:
                packed[:, word] |= codes[:, column].astype(np.uint64) << np.uint64(bits * field)
    return torch.from_numpy(packed.astype(np.uint32).view(np.int32).copy())


def drawn(bits: int, groups: int, seed: int = 0, low: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [N, K], zero points and float16 scales [N, groups]."""
    rng = draw(seed)
    codes = rng.integers(0, 1 << bits, (N, K))
    zeros = rng.integers(low, 1 << bits, (N, groups))
    return codes, zeros, rng.uniform(0.01, 0.1, (N, groups)).astype(np.float16)


def meant(codes: np.ndarray, zeros: np.ndarray, scales: np.ndarray, group_of: np.ndarray) -> Tensor:
    return torch.from_numpy((codes - zeros[:, group_of]) * scales[:, group_of].astype(np.float64))


def assert_means(got: Codes, wanted: Tensor) -> None:
    """The importer's numbers, and the kernel's product with the packed form of them."""
    torch.testing.assert_close(dequantise(got), wanted.double(), rtol=0, atol=0)
    x = torch.from_numpy(draw(9).normal(size=(2, wanted.shape[1]))).half()
    exact = x.double() @ wanted.double().T
    assert (weight_only_linear(x, pack(got, torch.float16)).double() - exact).norm() < 2e-3 * exact.norm()


@pytest.mark.parametrize("group", [32, 64, 128, -1])
def test_awq(group: int) -> None:
    """AutoAWQ, version gemm: w = (q - z) s; fields of a word hold outputs 0 2 4 6 1 3 5 7."""
    size = K if group == -1 else group
    codes, zeros, scales = drawn(4, K // size)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "qweight": words(codes.T, 4, order),
        "qzeros": words(zeros.T, 4, order),
        "scales": torch.from_numpy(scales.T.copy()),
    }
    got = from_awq(
        tensors, {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    )
    assert_means(got, meant(codes, zeros, scales, np.arange(K) // size))


@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("desc_act", [False, True])
def test_gptq(bits: int, version: str, desc_act: bool) -> None:
    """AutoGPTQ: inputs packed downwards, zero points sideways and (first version) less one; g_idx names the groups."""
    codes, zeros, scales = drawn(bits, K // 64, low=1)
    group_of = np.arange(K) // 64
    if desc_act:
        group_of = draw(3).permutation(group_of)
    stored = zeros - 1 if version == "gptq" else zeros
    tensors = {
        "qweight": words(codes, bits).T.contiguous(), "qzeros": words(stored.T, bits),
        "scales": torch.from_numpy(scales.T.copy()), "g_idx": torch.from_numpy(group_of.astype(np.int32)),
    }  # fmt: skip
    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": 64,
        "desc_act": desc_act,
        "checkpoint_format": version,
    }
    got = from_gptq(tensors, config)
    assert (got.order is not None) == desc_act
    assert_means(got, meant(codes, zeros, scales, group_of))


def test_gptq_zero_points_wrap() -> None:
    """A zero point of 0 is stored as -1, all bits set."""
    codes, zeros, scales = drawn(4, 1)
    zeros[:] = 0
    tensors = {
        "qweight": words(codes, 4).T.contiguous(), "qzeros": words(np.full((1, N), 15), 4),
        "scales": torch.from_numpy(scales.T.copy()),
    }  # fmt: skip
    assert_means(from_gptq(tensors, {"bits": 4, "group_size": -1}), meant(codes, zeros, scales, np.zeros(K, dtype=int)))


def test_symmetric_gptq_needs_no_zero_points() -> None:
    codes, zeros, scales = drawn(4, 2)
    tensors = {
        "qweight": words(codes, 4).T.contiguous(), "qzeros": words(np.full((2, N), 7), 4),
        "scales": torch.from_numpy(scales.T.copy()),
    }  # fmt: skip
    got = from_gptq(tensors, {"bits": 4, "group_size": 128, "sym": True})
    assert got.zeros is None
    assert_means(got, meant(codes, np.full_like(zeros, 8), scales, np.arange(K) // 128))


def scheme(form: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("actorder", [True, False])
def test_compressed_tensors_packed(bits: int, symmetric: bool, actorder: bool) -> None:
    """pack-quantized: signed numbers plus 2^(bits-1); weights packed sideways, zero points downwards."""
    codes, zeros, scales = drawn(bits, K // 32)
    group_of = draw(4).permutation(np.arange(K) // 32) if actorder else np.arange(K) // 32
    tensors = {
        "weight_packed": words(codes, bits),
        "weight_scale": torch.from_numpy(scales),
        "weight_shape": torch.tensor([N, K]),
    }
    if symmetric:
        zeros = np.full_like(zeros, 1 << (bits - 1))
    else:
        tensors["weight_zero_point"] = words(zeros.T, bits).T.contiguous()
    if actorder:
        tensors["weight_g_idx"] = torch.from_numpy(group_of.astype(np.int32))
    config = scheme("pack-quantized", num_bits=bits, type="int", strategy="group", group_size=32, symmetric=symmetric)
    assert_means(from_compressed_tensors(tensors, config), meant(codes, zeros, scales, group_of))


def test_compressed_tensors_int8_channels_with_zero_points() -> None:
    codes, zeros, scales = drawn(8, 1)
    tensors = {
        "weight": torch.from_numpy((codes - 128).astype(np.int8)), "weight_scale": torch.from_numpy(scales),
        "weight_zero_point": torch.from_numpy((zeros - 128).astype(np.int8)),
    }  # fmt: skip
    config = scheme("int-quantized", num_bits=8, type="int", strategy="channel")
    assert_means(from_compressed_tensors(tensors, config), meant(codes, zeros, scales, np.zeros(K, dtype=int)))


@pytest.mark.parametrize("strategy", ["tensor", "channel"])
def test_compressed_tensors_fp8(strategy: str) -> None:
    weight = torch.from_numpy(draw(5).normal(size=(N, K))).to(torch.float8_e4m3fn)
    scale = torch.from_numpy(draw(6).uniform(0.01, 0.1, (1 if strategy == "tensor" else N, 1))).half()
    config = scheme("float-quantized", num_bits=8, type="float", strategy=strategy)
    got = from_compressed_tensors(
        {"weight": weight, "weight_scale": scale.squeeze(1) if strategy == "tensor" else scale}, config
    )
    assert_means(got, weight.double() * scale.double())


def test_fp8_blocks() -> None:
    """Blocks of 128 x 128 share a scale; the last row of blocks is cut."""
    weight = torch.from_numpy(draw(5).normal(size=(150, K))).to(torch.float8_e4m3fn)
    scale = torch.from_numpy(draw(6).uniform(0.01, 0.1, (2, K // 128)).astype(np.float16)).float()
    wanted = weight.double() * torch.kron(scale, torch.ones(128, 128)).double()[:150]
    assert_means(from_fp8({"weight": weight, "weight_scale_inv": scale}, {"weight_block_size": [128, 128]}), wanted)


def test_mxfp4() -> None:
    """OCP Microscaling 1.0: e2m1, the earlier number in the low nibble, times 2^(e - 127)."""
    codes, exponents = draw(7).integers(0, 16, (N, K)), draw(8).integers(118, 130, (N, K // 32))
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    numbers = table[codes & 7] * np.where(codes & 8, -1, 1) * 2.0 ** (exponents[:, np.arange(K) // 32] - 127)
    packed = torch.from_numpy((codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8))
    scales = torch.from_numpy(exponents.astype(np.uint8))
    assert_means(from_mxfp4(packed, scales), torch.from_numpy(numbers))
    assert_means(from_mxfp4(packed.view(N, K // 32, 16), scales), torch.from_numpy(numbers))
    config = scheme("mxfp4-pack-quantized", num_bits=4, type="float")
    assert_means(
        from_compressed_tensors({"weight_packed": packed, "weight_scale": scales}, config), torch.from_numpy(numbers)
    )


def test_config_groups_are_found_by_name_before_class() -> None:
    groups = {"a": {"targets": ["Linear"], "weights": 1}, "b": {"targets": ["re:.*mlp.*"], "weights": 2},
              "c": {"targets": ["model.head"], "weights": 3}}  # fmt: skip
    config = {"config_groups": groups}
    found = [config_group(config, name)["weights"] for name in ("model.attn.q", "model.mlp.up", "model.head")]
    assert found == [1, 2, 3]
    with pytest.raises(ValueError, match=r"fits layer 'x'"):
        config_group({"config_groups": {"a": {"targets": ["re:y"]}}}, "x")


def test_a_checkpoint_is_split_into_layers_and_the_rest(tmp_path: Path) -> None:
    codes, zeros, scales = drawn(4, 2)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    layer = {
        "qweight": words(codes.T, 4, order),
        "qzeros": words(zeros.T, 4, order),
        "scales": torch.from_numpy(scales.T.copy()),
    }
    tensors = {f"model.q.{name}": tensor for name, tensor in layer.items()}
    tensors |= {"model.q.bias": torch.ones(N), "model.norm.weight": torch.ones(3), "lm_head.weight": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"quant_method": "awq", "bits": 4, "group_size": 128}
    layers, rest = import_layers(load_file(tmp_path / "model.safetensors"), config)
    assert list(layers) == ["model.q"]
    assert sorted(rest) == ["lm_head.weight", "model.norm.weight", "model.q.bias"]
    assert_means(layers["model.q"], meant(codes, zeros, scales, np.arange(K) // 128))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: import_layers({}, {"quant_method": "aqlm"}), "quant_method 'aqlm'"),
        (
            lambda: import_layers({"a.qweight": torch.ones(1, 1)}, {"quant_method": "awq"}),
            "a: tensors: an AWQ layer lacks",
        ),
        (lambda: from_awq({}, {"bits": 3}), "AWQ with 3 bits"),
        (lambda: from_awq({}, {"version": "gemv"}), "version 'gemv'"),
        (lambda: from_gptq({}, {"bits": 3}), "GPTQ with 3 bits"),
        (lambda: from_gptq({}, {"checkpoint_format": "marlin"}), "format 'marlin'"),
        (lambda: from_compressed_tensors({}, scheme("nvfp4-pack-quantized")), "format 'nvfp4-pack-quantized'"),
        (lambda: from_compressed_tensors({}, scheme("pack-quantized", num_bits=4)), "lacks weight_packed"),
        (lambda: from_compressed_tensors({}, scheme("pack-quantized", num_bits=3)), "3 bits"),
        (lambda: from_mxfp4(torch.ones(2, 16), torch.ones(2, 1)), "blocks: uint8"),
    ],
)
def test_what_is_not_supported_is_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_unequal_act_order_groups_are_refused() -> None:
    codes, _, scales = drawn(4, 2)
    tensors = {
        "qweight": words(codes, 4).T.contiguous(), "qzeros": words(np.full((2, N), 7), 4),
        "scales": torch.from_numpy(scales.T.copy()), "g_idx": torch.tensor([0] * 100 + [1] * 156, dtype=torch.int32),
    }  # fmt: skip
    with pytest.raises(ValueError, match="do not have 128 inputs each"):
        from_gptq(tensors, {"bits": 4, "group_size": 128})
