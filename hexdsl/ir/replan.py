"""`Replan`: another plan for a deployment that runs, and what became of each replica."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.plan import Plan, RuleCheck

Fate = Literal["goes on", "changes", "lost", "starts", "idle"]
Phases = Literal["both", "prefill", "decode"]


class Moved(Ir):
    """A replica before and after: its phase, and its requests per second."""

    replica: str
    fate: Fate
    role_before: Phases | None = Field(None, description="null where it starts")
    role_after: Phases | None = Field(None, description="null where it is lost or idle")
    rate_before_req_per_s: Rounded = 0.0
    rate_after_req_per_s: Rounded = 0.0


class Anew(Ir):
    """What a plan from nothing would do instead: it moves weights, and serves nothing on those GPUs meanwhile."""

    served_req_per_s: Rounded
    cost_usd_per_h: Rounded
    kept: int = Field(description="replicas with the same GPUs and layers as today")
    loads_bytes: Rounded = Field(description="weights that are loaded")
    reload_s: Rounded = Field(description="until the machine that loads most has loaded, at `disk_bytes_per_s`")
    disk_bytes_per_s: Rounded
    window_s: Rounded = Field(description="time over which the gain is counted")
    pays: bool = Field(description="gain * (window - reload) > what is served today * reload")


class Replan(Ir):
    """A light re-plan: replicas keep their GPUs, layers and weights; phases, loads and routes change."""

    format_version: str = "1.0"
    plan: Plan = Field(description="the plan from now on")
    replicas: tuple[Moved, ...]
    arrivals_req_per_s: Rounded | None = Field(None, description="the load from now on; null for a closed loop")
    served_before_req_per_s: Rounded
    served_after_req_per_s: Rounded
    bound_req_per_s: Rounded | None = Field(None, description="what no plan on these machines exceeds; null if unknown")
    broken: tuple[RuleCheck, ...] = Field((), description="rules that no choice of phases and routes keeps")
    anew: Anew | None = None
