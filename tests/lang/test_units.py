"""Units: reading, arithmetic, showing."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexdsl.ir.quantity import PLAIN, Dimension, Quantity, dimension
from hexdsl.lang.units import SCALES, SHOWN, UnitError, add, compare, div, mul, neg, quantity, show, sub

PER_SECOND = dimension(B=1, s=-1)


@pytest.mark.parametrize(
    ("text", "value", "dim"),
    [
        ("8", 8, {}),
        ("16_384", 16384, {}),
        ("0.1", 0.1, {}),
        ("1.5e3", 1500, {}),
        ("95%", 0.95, {}),
        ("32K", 32e3, {}),
        ("70B", 70e9, {}),
        ("2T", 2e12, {}),
        ("80GB", 80e9, {"B": 1}),
        ("80GiB", 80 * 2**30, {"B": 1}),
        ("64kB", 64e3, {"B": 1}),
        ("900GB/s", 900e9, {"B": 1, "s": -1}),
        ("400Gb/s", 50e9, {"B": 1, "s": -1}),
        ("250ms", 0.25, {"s": 1}),
        ("20us", 20e-6, {"s": 1}),
        ("30min", 1800, {"s": 1}),
        ("1d", 86400, {"s": 1}),
        ("12req/s", 12, {"req": 1, "s": -1}),
        ("90req/min", 1.5, {"req": 1, "s": -1}),
        ("8Mtok", 8e6, {"tok": 1}),
        ("989TFLOP/s", 989e12, {"flop": 1, "s": -1}),
        ("1979TOP/s", 1979e12, {"flop": 1, "s": -1}),
        ("3%/h", 0.03 / 3600, {"s": -1}),
        ("700W", 700, {"W": 1}),
        ("$40/h", 40 / 3600, {"usd": 1, "s": -1}),
        ("$2.90/gpu/h", 2.9 / 3600, {"usd": 1, "gpu": -1, "s": -1}),
        ("$1.5M", 1.5e6, {"usd": 1}),
        ("$3/Mtok", 3e-6, {"usd": 1, "tok": -1}),
        ("5tok/s/gpu", 5, {"tok": 1, "s": -1, "gpu": -1}),
        ("3FLOP/B", 3, {"flop": 1, "B": -1}),
    ],
)
def test_read(text: str, value: float, dim: dict[str, int]) -> None:
    assert quantity(text) == Quantity(value, dimension(**dim), text, quantity(text).count_word)


def test_a_bare_count_knows_its_word() -> None:
    assert quantity("70B").count_word == "70 billion"
    assert quantity("70GB").count_word == quantity("$70M").count_word == quantity("70").count_word == ""


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("900Gbps", "900Gb/s"),
        ("900GBps", "900GB/s"),
        ("100mbps", "100Mb/s"),
        ("989TFLOPS", "989TFLOP/s"),
        ("80gb", "80GB"),
        ("80G", "80GB"),
        ("80GIB", "80GiB"),
        ("70b", "70B"),
        ("32k", "32K"),
        ("5sec", "5s"),
        ("5m", "5min"),
        ("5hours", "5h"),
        ("12rps", "12req/s"),
        ("12req/sec", "12req/s"),
        ("$3/hr", "$3/h"),
        ("1e3hr", "1e3h"),
        ("100tokens/s", "100tok/s"),
        ("4GPUs", "4gpu"),
        ("10miliseconds", None),
        ("7parsec", None),
    ],
)
def test_unknown_unit(text: str, better: str | None) -> None:
    with pytest.raises(UnitError) as caught:
        quantity(text)
    help = caught.value.help or ""
    assert help == f"did you mean `{better}`?" if better else "for example" in help


@pytest.mark.parametrize("text", ["80GB/x", "80GB/total"])
def test_division_by_a_name_is_explained(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        quantity(text)
    assert caught.value.help == f"to divide by a name, put spaces around `/`: `80GB / {text[5:]}`"


@pytest.mark.parametrize(
    "text",
    ["", "1__0", "1_", "$", "-1", "1e400", "1e-400", "1e9999999999s", "9" * 5000, "1e308TB", "$5gb", "nan", "GB"],
)
def test_no_value(text: str) -> None:
    with pytest.raises(UnitError):
        quantity(text)


def test_exact_where_floats_can_be() -> None:
    assert mul(quantity("8"), quantity("400Gb/s")).value == 400e9
    assert add(quantity("0.1"), quantity("0.2")).value == 0.3
    assert div(quantity("0.3"), quantity("0.1")).value == 3
    assert mul(div(quantity("1"), quantity("3")), quantity("3")).value == 1


def test_dimensions_in_arithmetic() -> None:
    assert mul(quantity("$2/gpu/h"), quantity("8gpu")).dim == dimension(usd=1, s=-1)
    assert div(quantity("80GB"), quantity("10GB/s")) == Quantity(8, dimension(s=1))
    assert div(quantity("80GB"), quantity("40GB")) == Quantity(2, PLAIN)
    assert neg(quantity("3s")) == sub(quantity("0s"), quantity("3s")) == Quantity(-3, dimension(s=1))
    assert compare("<=", quantity("400ms"), quantity("0.4s"))
    assert compare("!=", quantity("1GB"), quantity("1GiB"))


@pytest.mark.parametrize("operation", [add, sub, lambda a, b: compare("<", a, b)])
def test_unlike_dimensions(operation: Callable[[Quantity, Quantity], object]) -> None:
    with pytest.raises(UnitError, match="`80GB` is an amount of memory and `3s` is a time"):
        operation(quantity("80GB"), quantity("3s"))


def test_no_infinity_comes_out() -> None:
    huge = quantity("1e300")
    for operation, other in ((mul, huge), (div, quantity("1e-300")), (div, quantity("0"))):
        with pytest.raises(UnitError):
            operation(huge, other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("80GB", "80GB"),
        ("500MB", "500MB"),
        ("400Gb/s", "50GB/s"),
        ("3.35TB/s", "3.35TB/s"),
        ("250ms", "250ms"),
        ("90s", "90s"),
        ("90min", "90min"),
        ("3d", "3d"),
        ("12req/s", "12req/s"),
        ("1979TFLOP/s", "1979TFLOP/s"),
        ("$2.90/gpu/h", "$2.90/gpu/h"),
        ("$14.8/h", "$14.80/h"),
        ("$40/h", "$40/h"),
        ("$1234.567", "$1234.57"),
        ("$0.49/gpu/h", "$0.49/gpu/h"),
        ("$3/Mtok", "$3/Mtok"),
        ("3%/h", "3%/h"),
        ("512tok", "512tok"),
        ("16_384", "16384"),
        ("0.88", "0.88"),
        ("12.34567", "12.35"),
        ("0s", "0ns"),
        ("7.3tok/s/gpu", "7.3tok/gpu/s"),
    ],
)
def test_show(text: str, shown: str) -> None:
    value = quantity(text)
    assert show(value.value, value.dim) == shown


def test_show_what_no_literal_has() -> None:
    assert show(3.3, dimension(W=1, s=1)) == "3.3 W*s"
    assert show(float("inf"), dimension(s=1)) == "inf"
    assert show(-0.25, dimension(s=1)) == "-250ms"


DIMENSIONS = st.sampled_from(
    [*SHOWN, dimension(tok=1, gpu=-1, s=-1), dimension(gpu=1), dimension(req=1), dimension(W=-1)]
)


@given(st.floats(1e-12, 1e24), DIMENSIONS)
def test_shown_values_read_back(value: float, dim: Dimension) -> None:
    back = quantity(show(value, dim))
    assert back.dim == dim
    assert back.value == pytest.approx(value, rel=5.1e-4)


@given(st.decimals(0, 10**6, allow_nan=False, places=3), st.sampled_from(sorted(SCALES)))
def test_literals_are_the_nearest_float(number: object, unit: str) -> None:
    factor, dim = SCALES[unit]
    assert quantity(f"{number}{unit}") == Quantity(float(Fraction(str(number)) * factor), dim, f"{number}{unit}")
