"""Products with quantised weights: the kernels in Triton's interpreter against float64.

The rule for errors: at most twice that of the same product by torch, in the same type, with the same weights.
"""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision import linear
from hexdsl.kernels.mixed_precision.configs import LINEAR, splits_for, tile_for
from hexdsl.kernels.mixed_precision.eight_bit import eight_bit_linear, eight_bit_op, eight_bit_weight, quantise_rows_op
from hexdsl.kernels.mixed_precision.formats import MXFP4, Codes
from hexdsl.kernels.mixed_precision.layout import pack
from hexdsl.kernels.mixed_precision.linear import launch_weight_only, weight_only_linear, weight_only_op
from hexdsl.kernels.mixed_precision.quantise import quantise_rows, quantise_weight
from hexdsl.kernels.mixed_precision.reference import dequantise, linear_reference, scaled_reference

DTYPES = (torch.float16, torch.bfloat16)
VARIANTS = (
    *product(("int4",), (32, 64, 128, 10**6), (True, False)),
    ("int8", 64, False), ("int8", 10**6, True), ("fp8", 128, True), ("fp8", 10**6, True), ("mxfp4", 32, True),
)  # fmt: skip


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).norm() / wanted.norm())


def assert_as_good_as_torch(got: Tensor, x: Tensor, dense: Tensor, bias: Tensor | None = None) -> None:
    """`dense` is the weight in float64."""
    extra = 0 if bias is None else bias
    wanted = x.double() @ dense.T + (0 if bias is None else bias.double())
    torchs = error((x.float() @ dense.to(x.dtype).float().T).to(x.dtype) + extra, wanted)
    assert bool(torch.isfinite(got).all())
    assert error(got, wanted) <= 2 * torchs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "group", "symmetric"), VARIANTS)
def test_every_format_multiplies(kind: str, group: int, symmetric: bool, dtype: torch.dtype) -> None:
    """N odd, K beyond a tile and no multiple of it, groups that end inside a tile."""
    codes = quantise_weight(rand(67, 200), kind, group, symmetric, dtype)
    x = rand(3, 200, seed=1).to(dtype)
    assert_as_good_as_torch(weight_only_linear(x, pack(codes, dtype)), x, dequantise(codes))


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (1, 64, 31), (17, 65, 129), (33, 3, 128), (65, 130, 100), (2, 5, 700)]
)
@pytest.mark.parametrize("kind", ["int4", "mxfp4"])
def test_edges_of_shapes(m: int, n: int, k: int, kind: str) -> None:
    codes = quantise_weight(rand(n, k), kind, 128, False, torch.float16)
    x, bias = rand(m, k, seed=1).half(), rand(n, seed=2).half()
    got = weight_only_linear(x, pack(codes, torch.float16), bias)
    assert_as_good_as_torch(got, x, dequantise(codes), bias)


def test_leading_dimensions_and_strides_are_kept() -> None:
    codes = quantise_weight(rand(8, 40), "int4", 32, True, torch.float16)
    x = rand(40, 3, 2, seed=1).half().permute(2, 1, 0)
    assert_as_good_as_torch(weight_only_linear(x, pack(codes, torch.float16)), x, dequantise(codes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_k_add_up(dtype: torch.dtype) -> None:
    """Few outputs and many inputs: K is cut, and the bias counts once."""
    k = 1200
    assert splits_for(1, -(-k // 128), 90) > 1
    codes = quantise_weight(rand(20, k), "int4", 128, False, dtype)
    x, bias = rand(2, k, seed=1).to(dtype), 100 * rand(20, seed=2).to(dtype)
    assert_as_good_as_torch(weight_only_linear(x, pack(codes, dtype), bias), x, dequantise(codes), bias)


def test_the_same_bits_every_time_and_in_every_batch() -> None:
    """A row's result does not depend on the rows beside it, within the sizes of one tile."""
    weight = pack(quantise_weight(rand(20, 300), "int4", 64, False, torch.bfloat16), torch.bfloat16)
    x = rand(9, 300, seed=1).bfloat16()
    whole = weight_only_linear(x, weight)
    assert torch.equal(whole, weight_only_linear(x, weight))
    assert torch.equal(whole[4:5], weight_only_linear(x[4:5], weight))


@pytest.mark.parametrize("exponent", [0, 2, 60, 126, 200, 252])
def test_mxfp4_scales_of_any_size(exponent: int) -> None:
    """Powers of two that float16 does not have; 2^-127 is subnormal even in float32 (the interpreter has no such
    bfloat16 numbers)."""
    codes = torch.arange(16, dtype=torch.uint8).repeat(2, 2)
    weight = Codes(MXFP4, codes, torch.full((2, 1), exponent, dtype=torch.uint8), None, 32)
    for dtype in DTYPES if exponent else DTYPES[:1]:
        x = torch.eye(32)[:16].to(dtype)
        partial = linear._products(x, pack(weight, dtype), None, torch.empty(1, 16, 2), tile_for(LINEAR, 90, 16))[0]
        torch.testing.assert_close(partial.double(), dequantise(weight).T[:16], rtol=0, atol=2.0**-140)


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_single_codes_are_exact(kind: str, dtype: torch.dtype) -> None:
    """Each code with each extreme zero point, times one."""
    bits = {"int4": 4, "int8": 8}[kind]
    fmt = quantise_weight(rand(1, 1), kind).format
    codes = torch.arange(1 << bits, dtype=torch.uint8)[:, None]
    for zero in (0, 1, (1 << bits) - 1):
        zeros = torch.full((len(codes), 1), zero, dtype=torch.uint8)
        weight = Codes(fmt, codes, torch.ones(len(codes), 1), zeros, 1)
        got = weight_only_linear(torch.ones(1, 1, dtype=dtype), pack(weight, dtype))
        assert torch.equal(got[0].double(), codes[:, 0].double() - zero)


def test_zero_scales_give_zero() -> None:
    codes = quantise_weight(torch.zeros(5, 64), "int4", 32, False)
    assert torch.equal(weight_only_linear(rand(2, 64).half(), pack(codes, torch.float16)), torch.zeros(2, 5).half())


def test_large_activations_stay_finite() -> None:
    codes = quantise_weight(rand(7, 64), "int4", 32, False, torch.bfloat16)
    x = 1e30 * rand(2, 64, seed=1).bfloat16()
    assert_as_good_as_torch(weight_only_linear(x, pack(codes, torch.bfloat16)), x, dequantise(codes))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_reference_is_the_product(dtype: torch.dtype) -> None:
    codes = quantise_weight(rand(9, 70), "int4", 32, False)
    x = rand(2, 70, seed=1).to(dtype)
    wanted = x.double() @ dequantise(codes).T
    tolerance = 1e-14 if dtype == torch.float64 else 1e-5
    assert error(linear_reference(x, pack(codes, torch.float16)), wanted) < tolerance


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_eight_by_eight_bits(kind: str, dtype: torch.dtype) -> None:
    codes = quantise_weight(rand(67, 300), kind, 10**6, True, torch.float32)
    weight, x, bias = eight_bit_weight(codes), rand(2, 3, 300, seed=1).to(dtype), rand(67, seed=2).to(dtype)
    x[0, 1] = 0
    rows, scales = quantise_rows(x.reshape(-1, 300), kind)
    wanted = scaled_reference(rows, scales, weight.codes, weight.scales, bias, torch.float64).view(2, 3, 67)
    got = eight_bit_linear(x, weight, bias)
    assert error(got, wanted) <= 2 * error(wanted.to(dtype), wanted)
    torch.testing.assert_close(got[0, 1], bias)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float32])
def test_rows_are_rounded_as_torch_rounds_them(kind: str, dtype: torch.dtype) -> None:
    """Subnormal fp8 numbers, ties and a row of zeros included; more columns than one block of the kernel."""
    x = rand(4, 2500).to(dtype)
    x[1] *= torch.logspace(-6, 0, 2500).to(dtype)
    x[2] = 0
    for got, wanted in zip(quantise_rows_op(x, kind), quantise_rows(x, kind), strict=True):
        assert torch.equal(got.view(torch.uint8), wanted.view(torch.uint8))


def test_int8_sums_are_exact_where_float32_would_not_be() -> None:
    k = 70_000
    x, w = (torch.full((1, k), v, dtype=torch.int8) for v in (127, 127))
    x[0, 0] = 126
    got = eight_bit_op(x, torch.ones(1), w, torch.ones(1), None, torch.float32)
    assert got.item() == torch.tensor(127 * 127 * k - 127, dtype=torch.int64).float().item()


OPS: tuple[Callable[[], object], ...] = (
    lambda: torch.library.opcheck(weight_only_op, (rand(2, 64).half(), *_parts(), None, "int4", 5, 32)),
    lambda: torch.library.opcheck(quantise_rows_op, (rand(2, 64).half(), "int8")),
    lambda: torch.library.opcheck(
        eight_bit_op, (*quantise_rows(rand(2, 64), "int8"), *quantise_rows(rand(5, 64), "int8"), None, torch.float16)
    ),
)


def _parts() -> tuple[Tensor, Tensor, Tensor | None]:
    weight = pack(quantise_weight(rand(5, 64), "int4", 32, False), torch.float16)
    return weight.words, weight.scales, weight.zeros


@pytest.mark.parametrize("check", OPS)
def test_operations_keep_the_contract_of_torch(check: Callable[[], object]) -> None:
    check()


def _weight() -> object:
    return pack(quantise_weight(rand(5, 64), "int4", 32, False), torch.float16)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: weight_only_linear(rand(2, 63).half(), _weight()), r"x: shape \(2, 63\), but the weight has 64"),
        (lambda: weight_only_linear(rand(2, 64), _weight()), "x: torch.float32"),
        (lambda: weight_only_linear(rand(2, 64).bfloat16(), _weight()), "packed for torch.float16"),
        (lambda: weight_only_linear(rand(2, 64).half(), _weight(), torch.ones(4)), r"bias: shape \(4,\)"),
        (lambda: weight_only_op(rand(2, 64).half(), *_parts(), None, "int5", 5, 32), "kind: 'int5'"),
        (lambda: weight_only_op(rand(2, 64).half(), *_parts(), None, "int8", 5, 32), "scales: shape"),
        (lambda: weight_only_op(rand(2, 64).half(), *_parts(), None, "int4", 5, 64), "scales: shape"),
        (lambda: eight_bit_weight(quantise_weight(rand(5, 64), "int8", 32)), "one scale for each output"),
        (lambda: eight_bit_weight(quantise_weight(rand(5, 64), "int4", 64)), "need int8 or fp8"),
        (lambda: eight_bit_linear(rand(1, 5), eight_bit_weight(quantise_weight(rand(5, 64), "int8", 64))), "x: shape"),
        (lambda: quantise_rows_op(rand(2, 2), "int4"), "kind: 'int4'"),
        (lambda: tile_for(LINEAR, 75, 1), "sm_75"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_nothing_in_nothing_out() -> None:
    weight = pack(quantise_weight(rand(5, 64), "int4", 32), torch.float16)
    assert launch_weight_only(torch.empty(0, 64).half(), weight, None).shape == (0, 5)
