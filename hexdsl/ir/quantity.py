"""Numbers with a dimension, and the annotated types by which a schema field demands one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

Dimension = tuple[tuple[str, int], ...]
"""Exponents of the base dimensions `B flop gpu req s tok usd W`, sorted by name; empty for a plain number."""

PLAIN: Dimension = ()

LARGEST = 1e300
LARGEST_WHOLE = 2**53
"""Every number of a spec is smaller, so that arithmetic on it stays finite, and on whole numbers exact."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in base units (byte, second, FLOP, US dollar, request, token, watt), with the text the user wrote."""

    value: float
    dim: Dimension = PLAIN
    text: str = ""
    count_word: str = ""
    """`billion` where the user wrote a bare `B`, and so on: it makes the help of an error exact."""


def dimension(**powers: int) -> Dimension:
    """`dimension(B=1, s=-1)` is bytes per second."""
    return tuple(sorted((name, power) for name, power in powers.items() if power))


@dataclass(frozen=True, slots=True)
class Unit:
    """What a field wants: its dimension, the suffix of its JSON name, words for errors, and one example."""

    dims: tuple[Dimension, ...]
    suffix: str
    words: str
    example: str
    whole: bool = False
    positive: bool = False

    def accept(self, value: Any) -> Any:
        """The value in base units.  A bare number is accepted from JSON; `Quantity` must have the dimension."""
        if isinstance(value, Quantity):
            self._check_dimension(value)
            value = value.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PydanticCustomError("unit", "{words} is wanted here", self._context())
        if not abs(value) <= (LARGEST_WHOLE if self.whole else LARGEST):
            raise PydanticCustomError("range", "this is out of range", self._context())
        if self.whole and value != int(value):
            raise PydanticCustomError("unit", "a whole number is wanted here", self._context())
        if value < 0 or (self.positive and value == 0):
            bound = "more than zero" if self.positive else "zero or more"
            raise PydanticCustomError("range", "this must be {bound}", {**self._context(), "bound": bound})
        return int(value) if self.whole else float(value)

    def _check_dimension(self, value: Quantity) -> None:
        if value.dim in self.dims:
            return
        got = describe(value)
        context = {**self._context(), "text": value.text or f"{value.value:g}", "got": got}
        raise PydanticCustomError("unit", "`{text}` is {got}, not {words}", context)

    def _context(self) -> dict[str, Any]:
        return {"words": self.words, "help": f"for example `{self.example}`"}


def describe(value: Quantity) -> str:
    """The dimension of a value in words: `a count (80 billion)`, `an amount of memory`, `a time`."""
    if value.count_word:
        return f"a count ({value.count_word})"
    known = {d: unit.words for unit in UNITS for d in unit.dims if d != PLAIN}
    if value.dim == PLAIN:
        return "a percentage" if value.text.endswith("%") else "a plain number without a unit"
    return known.get(value.dim, f"in {spell(value.dim)}")


def spell(dim: Dimension) -> str:
    """`B/s` for bytes per second."""
    over = "*".join(n if p == 1 else f"{n}^{p}" for n, p in dim if p > 0) or "1"
    under = "".join(f"/{n}" if p == -1 else f"/{n}^{-p}" for n, p in dim if p < 0)
    return over + under


def _unit(dim: Dimension, suffix: str, words: str, example: str, **more: Any) -> Unit:
    return Unit((dim,), suffix, words, example, **more)


BYTES = _unit(dimension(B=1), "bytes", "an amount of memory", "80GB", positive=True)
BANDWIDTH = _unit(dimension(B=1, s=-1), "bytes_per_s", "a bandwidth", "900GB/s or 400Gb/s", positive=True)
SECONDS = _unit(dimension(s=1), "s", "a time", "250ms")
FLOPS = _unit(dimension(flop=1, s=-1), "flop_per_s", "a compute rate", "989TFLOP/s", positive=True)
RATE = _unit(dimension(req=1, s=-1), "req_per_s", "a rate of requests", "12req/s", positive=True)
TOKEN_RATE = _unit(dimension(tok=1, s=-1), "tok_per_s", "a rate of tokens", "5000tok/s")
GPU_PRICE = _unit(dimension(usd=1, gpu=-1, s=-1), "usd_per_gpu_s", "a price per GPU", "$2.90/gpu/h")
COST = _unit(dimension(usd=1, s=-1), "usd_per_s", "a cost per time", "$40/h")
WATTS = _unit(dimension(W=1), "w", "a power", "700W")
CHURN = _unit(dimension(s=-1), "per_s", "a share per time", "3%/h")
TOKENS = Unit((PLAIN, dimension(tok=1)), "tok", "a number of tokens", "512tok", whole=True)
COUNT = Unit((PLAIN,), "", "a whole number", "8", whole=True, positive=True)
WHOLE = Unit((PLAIN,), "", "a whole number", "4", whole=True)
REAL = Unit((PLAIN,), "", "a plain number", "0.5")
SHARE = Unit((PLAIN,), "", "a share", "60%")

UNITS = (BYTES, BANDWIDTH, SECONDS, FLOPS, RATE, TOKEN_RATE, GPU_PRICE, COST, WATTS, CHURN, TOKENS, COUNT, SHARE)


def _typed(unit: Unit) -> Any:
    return (unit, BeforeValidator(unit.accept))


Bytes = Annotated[float, *_typed(BYTES)]
Bandwidth = Annotated[float, *_typed(BANDWIDTH)]
Seconds = Annotated[float, *_typed(SECONDS)]
FlopRate = Annotated[float, *_typed(FLOPS)]
Rate = Annotated[float, *_typed(RATE)]
TokenRate = Annotated[float, *_typed(TOKEN_RATE)]
GpuPrice = Annotated[float, *_typed(GPU_PRICE)]
Cost = Annotated[float, *_typed(COST)]
Watts = Annotated[float, *_typed(WATTS)]
Churn = Annotated[float, *_typed(CHURN)]
Tokens = Annotated[int, *_typed(TOKENS)]
Count = Annotated[int, *_typed(COUNT)]
Whole = Annotated[int, *_typed(WHOLE)]
Real = Annotated[float, *_typed(REAL)]
Share = Annotated[float, *_typed(SHARE)]
