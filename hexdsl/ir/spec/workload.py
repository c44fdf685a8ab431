"""`workload`: how requests arrive and how long they are."""

from __future__ import annotations

import math
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


class Constant(Ir):
    """Equal gaps."""

    kind: Literal["constant"] = "constant"
    rate: Rate


Arrivals = Annotated[
    Poisson | Gamma | Weibull | Constant,
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

    def quantile(self, z: float) -> float:
        """The length at the standard normal score `z`."""
        return self.low + (self.high - self.low) * (1 + math.erf(z / math.sqrt(2))) / 2


Length = Annotated[
    Fixed | LogNormal | Uniform, Field(discriminator="kind"), choice(Fixed, LogNormal, Uniform, bare="fixed")
]


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
    trace: File | None = Field(None, description="a recorded trace (CSV or JSON lines)")
    columns: dict[str, str] = Field({}, description="which column of the trace holds what")
    classes: dict[str, Share] = Field({}, description="shares of request classes, such as `{ chat = 60%, code = 40% }`")
    class_: tuple[RequestClass, ...] = Field((), description="request classes with lengths and rules of their own")
    clients: Count | None = Field(None, description="closed loop: so many clients, each waiting for its answer")
