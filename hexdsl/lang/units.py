"""Units: literals to quantities in base units, arithmetic that keeps dimensions, and quantities back to short text."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

from hexdsl.ir.quantity import PLAIN, Dimension, Quantity, describe, dimension, spell


class UnitError(Exception):
    """A literal or an operation that has no value; `help` says what to write instead."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help


DECIMAL = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
COUNT_WORDS = MappingProxyType({"K": "thousand", "M": "million", "B": "billion", "T": "trillion"})
COUNTS = MappingProxyType({"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12})

_Scale = tuple[Fraction, Dimension]


def _prefixed(name: str, factor: Fraction, dim: Dimension, *prefixes: Mapping[str, int]) -> dict[str, _Scale]:
    return {f"{p}{name}": (factor * scale, dim) for table in prefixes for p, scale in table.items()}


def _plainly(dim: Dimension, **factors: Fraction) -> dict[str, _Scale]:
    return {name: (factor, dim) for name, factor in factors.items()}


ONE = Fraction(1)
SECOND, BYTE, FLOP, WATT = dimension(s=1), dimension(B=1), dimension(flop=1), dimension(W=1)
REQUEST, TOKEN, GPU, DOLLAR = dimension(req=1), dimension(tok=1), dimension(gpu=1), dimension(usd=1)

SCALES: Mapping[str, _Scale] = MappingProxyType(
    {
        **_plainly(SECOND, ns=ONE / 10**9, us=ONE / 10**6, ms=ONE / 1000, s=ONE),
        **_plainly(SECOND, min=ONE * 60, h=ONE * 3600, d=ONE * 86400),
        **_prefixed("B", ONE, BYTE, DECIMAL, BINARY),
        **_prefixed("b", ONE / 8, BYTE, DECIMAL, BINARY),
        **_prefixed("FLOP", ONE, FLOP, DECIMAL, {"": 1}),
        **_prefixed("OP", ONE, FLOP, DECIMAL, {"": 1}),
        **_prefixed("req", ONE, REQUEST, DECIMAL, {"": 1}),
        **_prefixed("tok", ONE, TOKEN, DECIMAL, {"": 1}),
        **_prefixed("W", ONE, WATT, DECIMAL, {"": 1}),
        **_plainly(GPU, gpu=ONE),
        **_plainly(DOLLAR, usd=ONE),
        "%": (ONE / 100, PLAIN),
    }
)
"""Every unit with its factor and dimension.  A bare `K M B T` is a count, and so not here."""

LITERAL = re.compile(r"(?P<money>\$?)(?P<number>\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<units>[^\d_.].*|)")
LONGEST_NUMBER = 40
LARGEST_EXPONENT = 300


def quantity(text: str) -> Quantity:
    """The value of a literal such as `8`, `16_384`, `80GB`, `$2.90/gpu/h`.  Raises UnitError."""
    match = LITERAL.fullmatch(text)
    if not match:
        raise UnitError(f"`{text}` is not a number", "digits may be grouped by single underscores: `16_384`")
    first, *below = match["units"].split("/")
    factor, dim = _first_unit(text, match["money"], first)
    for unit in below:
        scale, under = _look_up(text, unit, divides=True)
        factor, dim = factor / scale, _combined(dim, under, -1)
    counted = not match["money"] and not below and first in COUNT_WORDS
    word = f"{match['number']} {COUNT_WORDS[first]}" if counted else ""
    return Quantity(_float(_exact(text, match["number"]) * factor, text), dim, text, word)


def _first_unit(text: str, money: str, unit: str) -> _Scale:
    if unit in COUNTS:
        return Fraction(COUNTS[unit]), DOLLAR if money else PLAIN
    if money:
        if unit:
            raise UnitError(f"`{text}` mixes `$` and `{unit}`", "for example `$2.90/gpu/h`")
        return ONE, DOLLAR
    return _look_up(text, unit, divides=False) if unit else (ONE, PLAIN)


def _look_up(text: str, unit: str, divides: bool) -> _Scale:
    if unit in SCALES:
        return SCALES[unit]
    if divides and unit == "B":
        return ONE, BYTE
    raise UnitError(f"`{text}` has an unknown unit `{unit}`", _advice(text, unit, divides))


def _exact(text: str, number: str) -> Fraction:
    exponent = re.search(r"[eE]([+-]?\d+)$", number)
    if len(number) > LONGEST_NUMBER or (exponent and abs(int(exponent[1])) > LARGEST_EXPONENT):
        raise UnitError(f"`{_shortened(text)}` is out of range", "use a larger or smaller unit")
    return Fraction(number.replace("_", ""))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NUMBER else f"{text[:LONGEST_NUMBER]}..."


def _float(value: Fraction, text: str) -> float:
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if math.isinf(result) or (value and not result):
        raise UnitError(f"`{text}` is out of range", "use a larger or smaller unit")
    return result


def _combined(left: Dimension, right: Dimension, sign: int) -> Dimension:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + sign * power
    return dimension(**powers)


# Did you mean.

ALIASES = MappingProxyType(
    {
        **dict.fromkeys(("sec", "secs", "second", "seconds", "S"), "s"),
        **dict.fromkeys(("msec", "msecs", "millis"), "ms"),
        **dict.fromkeys(("usec", "usecs", "micros"), "us"),
        **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
        **dict.fromkeys(("hr", "hrs", "hour", "hours", "H"), "h"),
        **dict.fromkeys(("day", "days", "D"), "d"),
        **dict.fromkeys(("t", "token", "tokens", "toks"), "tok"),
        **dict.fromkeys(("r", "request", "requests", "reqs"), "req"),
        **dict.fromkeys(("rps", "qps"), "req/s"),
        **dict.fromkeys(("rpm", "qpm"), "req/min"),
        **dict.fromkeys(("tps",), "tok/s"),
        **dict.fromkeys(("g", "G", "gig", "gigs"), "GB"),
        **dict.fromkeys(("gpus", "GPU", "GPUs"), "gpu"),
        **dict.fromkeys(("percent", "pct"), "%"),
        **dict.fromkeys(("b", "bn", "billion"), "B"),
        **dict.fromkeys(("k", "thousand"), "K"),
        **dict.fromkeys(("mn", "million"), "M"),
        **dict.fromkeys(("trillion",), "T"),
    }
)
PER_SECOND = re.compile(r"([KMGTP]|[KMGT]i)(b|bit|bits|B|bytes|FLOP|OP)p?s", re.IGNORECASE)
WHOLE_NAMES = MappingProxyType({"bit": "b", "bits": "b", "bytes": "B", "flop": "FLOP", "op": "OP"})


def _advice(text: str, unit: str, divides: bool) -> str:
    better = _closest(unit)
    if better and not (divides and ("/" in better or better in COUNTS)):
        return f"did you mean `{_replaced(text, unit, better)}`?"
    if divides:
        number, _, name = text.partition(f"/{unit}")
        return f"to divide by a name, put spaces around `/`: `{number} / {unit}{name}`"
    return "units are for example GB, GiB, Gb/s, ms, h, req/s, tok, TFLOP/s, W, %, and K, M, B, T for counts"


def _replaced(text: str, unit: str, better: str) -> str:
    parts = re.split(r"(?<=\d)(?=[^\d_.eE])|(/)", text, maxsplit=0)
    return "".join(better if part == unit else part for part in parts if part)


def _closest(unit: str) -> str | None:
    if unit in ALIASES:
        return ALIASES[unit]
    if rate := PER_SECOND.fullmatch(unit):
        name = WHOLE_NAMES.get(rate[2].lower(), rate[2])
        return f"{rate[1].capitalize()}{name}/s"
    if unit.lower() in ALIASES:
        return ALIASES[unit.lower()]
    return _in_any_case(unit) or next(iter(difflib.get_close_matches(unit, SCALES, 1, 0.6)), None)


def _in_any_case(unit: str) -> str | None:
    """The unit that differs only in case; bytes before bits, as the table has them."""
    if unit in SCALES:
        return unit
    return next((name for name in SCALES if name.lower() == unit.lower()), None)


# Arithmetic.

EXACT_ENOUGH = 4
"""Units in the last place by which a sum or product may miss a short decimal number and still mean it."""


def add(left: Quantity, right: Quantity) -> Quantity:
    """`left + right`, of one dimension.  Raises UnitError."""
    _same_dimension(left, right, "added")
    return _result(left.value + right.value, left.dim)


def sub(left: Quantity, right: Quantity) -> Quantity:
    """`left - right`, of one dimension.  Raises UnitError."""
    _same_dimension(left, right, "subtracted")
    return _result(left.value - right.value, left.dim)


def mul(left: Quantity, right: Quantity) -> Quantity:
    """`left * right`.  Raises UnitError on overflow."""
    return _result(left.value * right.value, _combined(left.dim, right.dim, 1))


def div(left: Quantity, right: Quantity) -> Quantity:
    """`left / right`.  Raises UnitError where `right` is zero."""
    if right.value == 0:
        raise UnitError(f"division by zero: `{_name(right)}` is zero")
    return _result(left.value / right.value, _combined(left.dim, right.dim, -1))


def neg(value: Quantity) -> Quantity:
    """`-value`."""
    return Quantity(-value.value, value.dim)


COMPARISONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<=": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
    }
)


def compare(op: str, left: Quantity, right: Quantity) -> bool:
    """`left op right`, of one dimension.  Raises UnitError."""
    _same_dimension(left, right, "compared")
    return COMPARISONS[op](left.value, right.value)


def _same_dimension(left: Quantity, right: Quantity, done: str) -> None:
    if left.dim != right.dim:
        kinds = f"`{_name(left)}` is {describe(left)} and `{_name(right)}` is {describe(right)}"
        raise UnitError(f"{kinds}: they cannot be {done}", "both sides need the same unit")


def _name(value: Quantity) -> str:
    return value.text or show(value.value, value.dim)


def _result(value: float, dim: Dimension) -> Quantity:
    if not math.isfinite(value):
        raise UnitError("the result is out of range")
    short = float(f"{value:.12g}")
    return Quantity(short if abs(short - value) <= EXACT_ENOUGH * math.ulp(value) else value, dim)


# Back to text.

_Steps = tuple[tuple[float, str], ...]
"""Smallest value from which a unit is used, and the unit; the first one also serves everything below."""

SHOWN: Mapping[Dimension, _Steps] = MappingProxyType(
    {
        BYTE: ((0, "KB"), (1e6, "MB"), (1e9, "GB"), (1e13, "TB"), (1e16, "PB")),
        dimension(B=1, s=-1): ((0, "KB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s"), (1e15, "PB/s")),
        SECOND: ((0, "ns"), (1e-6, "us"), (1e-3, "ms"), (1, "s"), (300, "min"), (7200, "h"), (172800, "d")),
        FLOP: ((0, "FLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e16, "PFLOP")),
        dimension(flop=1, s=-1): ((0, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e16, "PFLOP/s")),
        dimension(req=1, s=-1): ((0, "req/h"), (0.002, "req/min"), (0.1, "req/s")),
        TOKEN: ((0, "tok"), (1e7, "Mtok"), (1e10, "Gtok"), (1e13, "Ttok")),
        dimension(tok=1, s=-1): ((0, "tok/s"), (1e7, "Mtok/s")),
        WATT: ((0, "W"), (1e4, "kW"), (1e7, "MW")),
        DOLLAR: ((0, ""),),
        dimension(usd=1, s=-1): ((0, "/h"),),
        dimension(usd=1, gpu=-1, s=-1): ((0, "/gpu/h"),),
        dimension(usd=1, tok=-1): ((0, "/Mtok"),),
        dimension(s=-1): ((0, "%/h"),),
        PLAIN: ((0, ""),),
    }
)


def show(value: float, dim: Dimension) -> str:
    """A value with four significant digits (whole numbers in full) in a fitting unit, as `quantity` reads it.

    Dimensions that no literal can have, such as W*s, are spelt out.
    """
    if not math.isfinite(value):
        return str(value)
    if value < 0:
        return f"-{show(-value, dim)}"
    if steps := SHOWN.get(dim):
        unit = [unit for start, unit in steps if value >= start][-1]
    elif (fallback := _base_unit(dim)) is None:
        return f"{_digits(value)} {spell(dim)}"
    else:
        unit = fallback
    if dict(dim).get("usd", 0) > 0:
        return f"${_cents(value / _factor('$1' + unit))}{unit}"
    return f"{_digits(value / _factor('1' + unit))}{unit}"


def _base_unit(dim: Dimension) -> str | None:
    """The unit of a dimension that has no table entry: `tok/gpu/s`; None where no literal has it."""
    above = [name for name, power in dim for _ in range(power)]
    below = "".join(f"/{_spelt(name)}" for name, power in dim for _ in range(-power))
    if len(above) > 1:
        return None
    if not above:
        return f"%{below}"
    first = {"B": "KB", "usd": ""}.get(above[0])
    return f"{_spelt(above[0]) if first is None else first}{below}"


def _spelt(name: str) -> str:
    return {"flop": "FLOP"}.get(name, name)


def _factor(literal: str) -> float:
    return quantity(literal).value


def _digits(value: float) -> str:
    if abs(value) < 1e15 and abs(value - round(value)) <= 1e-9 * abs(value):
        return str(round(value))
    return f"{value:.4g}"


def _cents(value: float) -> str:
    """Dollars with two decimals, or with four significant digits where these are more."""
    text = f"{value:.2f}" if value >= 1000 else _digits(value)
    whole, dot, cents = text.partition(".")
    return f"{whole}.{cents:0<2}" if dot and "e" not in cents else text
