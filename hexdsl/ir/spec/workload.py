"""`workload`: how requests arrive and how long they are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Rate, Real, Share, Tokens
from hexdsl.ir.spec.common import File, Name
from hexdsl.ir.spec.metrics import REQUEST
from hexdsl.ir.spec.rule import MetricInfo, Rule
from hexdsl.ir.values import choice

Z95 = 1.6448536269514722
"""The standard normal distribution's 95 % quantile."""


class Poisson(Ir):
    """Independent arrivals."""

    kind: Literal["poisson"] = "poisson"
    rate: Rate

    @property
    def cv(self) -> float:
        """Standard deviation of the gaps over their mean."""
        return 1.0


class Gamma(Ir):
    """Gaps from a gamma distribution; `cv` above 1 is burstier than Poisson."""

    kind: Literal["gamma"] = "gamma"
    rate: Rate
    cv: Real = Field(1.0, gt=0)


class Weibull(Ir):
    """Gaps from a Weibull distribution."""

    kind: Literal["weibull"] = "weibull"
    rate: Rate
    shape: Real = Field(1.0, gt=0)

    @property
    def cv(self) -> float:
        """Standard deviation of the gaps over their mean."""
        first, second = (math.lgamma(1 + k / self.shape) for k in (1, 2))
        return math.sqrt(math.expm1(min(700.0, second - 2 * first)))


class Constant(Ir):
    """Equal gaps."""

    kind: Literal["constant"] = "constant"
    rate: Rate

    @property
    def cv(self) -> float:
        """Standard deviation of the gaps over their mean."""
        return 0.0


LOADS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the time in which a server is busy, at which it is kept how recorded arrivals queue for it."""


class Recorded(Ir):
    """The arrivals of a trace: requests per second, and the gaps' standard deviation over their mean (`cv`).

    One figure says little of arrivals with pauses and rush hours, so `queued` gives it as queues feel it, at each of
    `LOADS`: for a server that takes equally long for every request, batches of geometric size with a Poisson start and
    gaps of this variation would wait as long as the trace's requests do.
    """

    READ: ClassVar[bool] = True

    kind: Literal["recorded"] = "recorded"
    rate: Rate
    cv: Real = Field(ge=0)
    queued: tuple[float, ...] = Field(min_length=len(LOADS), max_length=len(LOADS))

    @classmethod
    def of(cls, times_s: Sequence[float], speed: float = 1.0) -> Recorded | None:
        """Those of requests at these times, played so many times faster; None where all come at once."""
        if times_s[-1] == times_s[0]:
            return None
        gaps = [b - a for a, b in pairwise(times_s)]
        mean, cv = _moments(gaps)
        queued = tuple(_short(_felt(gaps, load * mean, load)) for load in LOADS)
        return cls(rate=_short(speed / mean), cv=_short(cv), queued=queued)


def _felt(gaps: Sequence[float], service: float, busy: float) -> float:
    """The variation of gaps with which requests would wait for a server as they do (Lindley's recursion)."""
    wait = total = 0.0
    for gap in gaps:
        wait = max(0.0, wait + service - gap)
        total += wait
    spread = 2 * (1 - busy) * total / (len(gaps) + 1) / service
    return math.sqrt(spread / busy if spread < busy else 1 + spread - busy)


Arrivals = Annotated[
    Poisson | Gamma | Weibull | Constant | Recorded,
    Field(discriminator="kind"),
    choice(Poisson, Gamma, Weibull, Constant, bare="poisson"),
]


class Fixed(Ir):
    """Every request has this length."""

    kind: Literal["fixed"] = "fixed"
    value: Tokens

    @property
    def mean(self) -> float:
        return float(self.value)

    @property
    def cv(self) -> float:
        """Standard deviation over the mean."""
        return 0.0

    def quantile(self, z: float) -> float:
        """The length at the standard normal score `z`."""
        return float(self.value)


class LogNormal(Ir):
    """Lengths whose logarithm is normal, given by two quantiles."""

    kind: Literal["lognormal"] = "lognormal"
    median: Tokens
    p95: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> LogNormal:
        if not 0 < self.median <= self.p95:
            raise PydanticCustomError("range", "p95 is below the median", {"help": "write median <= p95, above zero"})
        return self

    @property
    def sigma(self) -> float:
        return math.log(self.p95 / self.median) / Z95

    @property
    def mean(self) -> float:
        return self.median * math.exp(self.sigma**2 / 2)

    @property
    def cv(self) -> float:
        """Standard deviation over the mean."""
        return math.sqrt(math.expm1(self.sigma**2))

    def quantile(self, z: float) -> float:
        """The length at the standard normal score `z`."""
        return self.median * math.exp(self.sigma * z)


class Uniform(Ir):
    """Lengths equally likely between two bounds."""

    kind: Literal["uniform"] = "uniform"
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low > self.high:
            raise PydanticCustomError("range", "low is above high", {"help": "write low <= high"})
        return self

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def cv(self) -> float:
        """Standard deviation over the mean."""
        return (self.high - self.low) / math.sqrt(12) / self.mean if self.mean else 0.0

    def quantile(self, z: float) -> float:
        """The length at the standard normal score `z`."""
        return self.low + (self.high - self.low) * _share_below(z)


SHARES = (*(i / 20 for i in range(10)), *(i / 100 for i in range(50, 100)), 0.999, 1.0)
"""Shares of the requests at which an empirical distribution is kept: every percentile that a rule may name."""


class Empirical(Ir):
    """The lengths of a trace: their mean, their spread, and their quantiles at `SHARES`."""

    READ: ClassVar[bool] = True

    kind: Literal["empirical"] = "empirical"
    mean: float = Field(ge=1)
    cv: float = Field(ge=0)
    quantiles: tuple[float, ...] = Field(min_length=len(SHARES), max_length=len(SHARES))
    count: int = Field(ge=1, description="lengths that this sums up")
    repeated: float = Field(0.0, ge=0, le=1, description="share of the tokens with which an earlier request began")

    @model_validator(mode="after")
    def _ordered(self) -> Empirical:
        if any(a > b for a, b in pairwise((1.0, *self.quantiles))):
            raise PydanticCustomError("range", "quantiles must ascend from at least one token", {"help": "sort them"})
        return self

    @classmethod
    def of(cls, lengths: Sequence[int], repeated: float = 0.0) -> Empirical:
        """Those of these lengths; between two of them a quantile is linear."""
        mean, cv = _moments(lengths)
        ranked = sorted(lengths)
        quantiles = tuple(_short(_between(ranked, share * (len(ranked) - 1))) for share in SHARES)
        return cls(mean=_short(mean), cv=_short(cv), quantiles=quantiles, count=len(lengths), repeated=_short(repeated))

    def quantile(self, z: float) -> float:
        """The length at the standard normal score `z`."""
        share = _share_below(z)
        i = min(max(bisect_right(SHARES, share), 1), len(SHARES) - 1)
        return _between(self.quantiles, i - 1 + (share - SHARES[i - 1]) / (SHARES[i] - SHARES[i - 1]))


def _between(values: Sequence[float], position: float) -> float:
    """The value at a position that may lie between two of them."""
    low = min(int(position), len(values) - 1)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the standard deviation over it."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) / mean


def _share_below(z: float) -> float:
    """The share of a standard normal distribution below a score."""
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _short(value: float) -> float:
    """Six significant digits: what JSON holds is then exactly what was planned with."""
    return float(f"{value:.6g}")


Length = Annotated[
    Fixed | LogNormal | Uniform | Empirical,
    Field(discriminator="kind"),
    choice(Fixed, LogNormal, Uniform, bare="fixed"),
]


SLOWEST = 1e-3
"""Least speed at which a trace is played; the greatest is its inverse."""


class RequestClass(Ir):
    """A part of the load with lengths and rules of its own."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = REQUEST

    name: Name
    share: Share = Field(description="share of the requests")
    prompt: Length | None = Field(None, description="prompt lengths of this class")
    output: Length | None = Field(None, description="output lengths of this class")
    rules: tuple[Rule, ...] = Field((), description="latency rules of this class")


class Workload(Ir):
    """How requests arrive and how long they are, from distributions or from a trace."""

    KIND: ClassVar[str] = "workload"

    name: str
    arrivals: Arrivals | None = Field(None, description="how requests arrive, such as `poisson(12req/s)`")
    prompt: Length = Field(
        Fixed.model_construct(value=1000),
        description="prompt lengths, such as `lognormal(median = 900, p95 = 4000)`",
        json_schema_extra={"pin": "prompt = 1000tok"},
    )
    output: Length = Field(
        Fixed.model_construct(value=200), description="output lengths", json_schema_extra={"pin": "output = 200tok"}
    )
    trace: File | None = Field(
        None, description="a recorded trace (CSV or JSON lines): what is not written beside it is taken from it"
    )
    columns: dict[str, str] = Field(
        {}, description='which column of the trace holds what, such as `{ prompt = "in", output = "out" }`'
    )
    speed: Real = Field(
        1.0, ge=SLOWEST, le=1 / SLOWEST, description="how many times faster than recorded the trace is played"
    )
    classes: dict[str, Share] = Field({}, description="shares of request classes, such as `{ chat = 60%, code = 40% }`")
    class_: tuple[RequestClass, ...] = Field((), description="request classes with lengths and rules of their own")
    clients: Count | None = Field(None, description="closed loop: so many clients, each waiting for its answer")
