"""`Front`: plans of which none is better than another in everything, with what each comes to on every axis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir, Rounded


class Axis(Ir):
    """A figure in which plans are compared."""

    name: str = Field(description="as the spec's language names it, such as `cost` or `p95(tpot)`")
    sense: Literal["minimize", "maximize"]
    unit: str = Field("", description="unit of its values; empty for a plain number")

    @property
    def goal(self) -> str:
        """`minimize cost`."""
        return f"{self.sense} {self.name}"

    def worse(self, value: float, other: float, slack: float = 1e-6) -> bool:
        """Whether a value is worse than another by more than a share of them."""
        more = value - other if self.sense == "minimize" else other - value
        return more > slack * max(abs(value), abs(other))


class FrontPoint(Ir):
    """A plan: what was asked, and what it comes to."""

    lines: tuple[str, ...] = Field(
        description="what reproduces it in the spec in place of its objectives, beside its own rules"
    )
    values: tuple[Rounded, ...] = Field(description="a value for each axis, as predicted")
    simulated: tuple[Rounded | None, ...] = Field((), description="the same as simulated; null where it was not")
    optimised: str = Field(description="the axis that was optimised first")
    bound: Rounded | None = Field(None, description="what no plan under these lines beats there; null if not known")
    gpus: int = Field(description="GPUs in use")
    replicas: tuple[str, ...] = Field(description="the replicas by kind, such as `2 x 8 H100 TP 8`")
    plan: str = Field(description="digest of the plan")
    own: bool = Field(False, description="whether the spec as it is gives this plan, or one that comes to the same")


class Front(Ir):
    """The frontier of a workflow.  Points are in the order of the first axis."""

    format_version: str = "1.0"
    hexc_version: str
    spec_digest: str
    name: str
    axes: tuple[Axis, ...]
    points: tuple[FrontPoint, ...]
    searches: int = Field(description="searches for a plan that were made, before simulations asked for more")
    notes: tuple[str, ...] = ()


def dominates(axes: tuple[Axis, ...], one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether the values of one plan are no worse than another's on any axis, and better on one."""
    pairs = tuple(zip(axes, one, other, strict=True))
    return not any(a.worse(x, y) for a, x, y in pairs) and any(a.worse(y, x) for a, x, y in pairs)


def alike(axes: tuple[Axis, ...], one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two plans come to the same on every axis."""
    return not any(a.worse(x, y) or a.worse(y, x) for a, x, y in zip(axes, one, other, strict=True))
