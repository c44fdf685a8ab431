"""Packing is exact, and quantising rounds to nearest."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hexdsl.kernels.mixed_precision.formats import E2M1, FORMATS, INT4, INT8, Codes
from hexdsl.kernels.mixed_precision.layout import pack, pack_codes, unpack, unpack_codes
from hexdsl.kernels.mixed_precision.quantise import e2m1_code, quantise_rows, quantise_weight
from hexdsl.kernels.mixed_precision.reference import decode, dequantise

KINDS = tuple(FORMATS)
DTYPES = (torch.float16, torch.bfloat16)
SIZES = st.integers(1, 300)
BYTES = torch.ones(1, 32, dtype=torch.uint8)


def random_codes(kind: str, n: int, k: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1 << FORMATS[kind].bits, (n, k), generator=generator, dtype=torch.uint8)


@given(st.sampled_from(KINDS), SIZES, SIZES, st.integers(0, 99))
def test_words_give_back_every_code(kind: str, n: int, k: int, seed: int) -> None:
    codes = random_codes(kind, n, k, seed)
    words = pack_codes(codes, FORMATS[kind])
    assert words.dtype == torch.int16
    assert torch.equal(unpack_codes(words, n, k, FORMATS[kind]), codes)


@given(
    st.sampled_from(KINDS), SIZES, SIZES, st.sampled_from((32, 64, 128, 10**6)), st.booleans(), st.sampled_from(DTYPES)
)
def test_a_packed_weight_gives_back_its_parts(
    kind: str, n: int, k: int, group: int, symmetric: bool, dtype: torch.dtype
) -> None:
    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(n * 1000 + k))
    codes = quantise_weight(weight, kind, group, symmetric, dtype)
    back = unpack(pack(codes, dtype))
    assert torch.equal(back.codes, codes.codes)
    assert torch.equal(back.scales, codes.scales)
    assert (back.zeros is None) == (codes.zeros is None)
    assert back.zeros is None or torch.equal(back.zeros, codes.zeros)
    assert torch.equal(dequantise(back), dequantise(codes))


def test_a_tile_is_one_run_of_memory_in_planes() -> None:
    """Word j of a row holds inputs j, 32 + j, 64 + j, 96 + j, the first in the lowest bits."""
    codes = random_codes("int4", 64, 256, 0)
    words = pack_codes(codes, INT4)
    assert words.shape == (1, 2, 64, 32)
    row, j = codes[5, 128:].int(), 7
    wanted = row[j] | row[32 + j] << 4 | row[64 + j] << 8 | row[96 + j] << 12
    assert words[0, 1, 5, j].item() & 0xFFFF == wanted.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_code_would_have_been_nearer(kind: str, symmetric: bool) -> None:
    weight = torch.randn(6, 70, generator=torch.Generator().manual_seed(1))
    codes = quantise_weight(weight, kind, 32, symmetric, torch.float32)
    error = (dequantise(codes) - weight.double()).abs()
    for other in range(1 << FORMATS[kind].bits):
        if kind == "fp8" and other & 0x7F == 0x7F:
            continue
        moved = Codes(codes.format, torch.full_like(codes.codes, other), codes.scales, codes.zeros, codes.group)
        assert bool((error <= (dequantise(moved) - weight.double()).abs() + 1e-6).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.5, -2.0, 1e-30])
def test_constant_groups_are_finite_and_right(kind: str, value: float) -> None:
    weight = torch.full((3, 64), value)
    got = dequantise(quantise_weight(weight, kind, 32, False, torch.float32))
    assert bool(torch.isfinite(got).all())
    torch.testing.assert_close(got, weight.double(), rtol=0.26 if kind == "mxfp4" else 1e-6, atol=1e-37)


def test_e2m1_ties_go_to_the_even_code() -> None:
    middles = torch.tensor([(a + b) / 2 for a, b in itertools.pairwise(E2M1)], dtype=torch.float64)
    assert e2m1_code(middles).tolist() == [0, 2, 2, 4, 4, 6, 6]


def test_fp8_codes_mean_what_the_standard_says() -> None:
    """e4m3: (-1)^s 2^(e-7) (1 + m/8), or 2^-6 m/8 for e = 0 (Micikevicius et al. 2022, table 1)."""
    codes = torch.arange(256, dtype=torch.uint8)
    codes = codes[(codes & 0x7F) != 0x7F]
    sign, e, m = 1 - 2 * (codes >> 7).double(), ((codes >> 3) & 15).double(), (codes & 7).double()
    wanted = sign * torch.where(e == 0, 2.0**-6 * m / 8, torch.exp2(e - 7) * (1 + m / 8))
    assert torch.equal(decode(codes, FORMATS["fp8"]), wanted)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_rows_keep_their_largest_magnitude(kind: str) -> None:
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    x[2] = 0
    codes, scale = quantise_rows(x, kind)
    back = codes.double() * scale.double()[:, None]
    torch.testing.assert_close(back.abs().amax(1), x.abs().amax(1).double(), rtol=1e-6, atol=0)
    assert scale[2] == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: quantise_weight(torch.ones(2, 32), "int3"), "kind: 'int3'"),
        (lambda: quantise_weight(torch.ones(2), "int4"), "weight: a matrix"),
        (lambda: quantise_weight(torch.full((2, 32), float("nan")), "int4"), "finite"),
        (lambda: pack(quantise_weight(torch.ones(2, 96), "int4", 48), torch.float16), "group: 48"),
        (lambda: pack(quantise_weight(torch.ones(2, 32), "int4"), torch.float32), "dtype: torch.float32"),
        (lambda: pack(Codes(INT4, BYTES + 15, torch.ones(1, 1), None, 32), torch.float16),
         "more than 4 bits"),
        (lambda: pack(Codes(INT8, BYTES, torch.full((1, 1), 1e9), None, 32), torch.float16),
         "not a finite number"),
        (lambda: Codes(INT4, torch.ones(2, 64, dtype=torch.uint8), torch.ones(2, 1), None, 32), "scales: shape"),
        (lambda: Codes(FORMATS["fp8"], torch.ones(1, 32, dtype=torch.uint8), torch.ones(1, 1), torch.ones(1, 1), 32),
         "no zero points"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()  # type: ignore[operator]
