"""`think`: several reasoning branches per request, cut short."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Share, Tokens


class Prune(Ir):
    """When a branch is given up."""

    reward: Literal["auto"] | str = Field("auto", description="reward model that scores a branch")
    explore: Share = Field(0.5, le=1, description="score under which a branch is cut in the first phase")
    exploit: Annotated[Literal["first_done"] | Annotated[Share, Field(le=1)], Field(union_mode="left_to_right")] = (
        Field("first_done", description="threshold of the second phase, or the first finished branch's score")
    )
    at_most: Count | None = Field(None, description="branches that may be cut")


class Think(Ir):
    """Reasoning branches: sample `branches`, stop when `stop_at` are done."""

    branches: Count = Field(description="branches sampled per request")
    stop_at: Count | None = Field(None, description="finished branches after which the rest are stopped")
    cap: Tokens | None = Field(None, gt=0, description="longest branch")
    check_every: Tokens = Field(400, gt=0, description="tokens between two looks at a branch's score")
    prune: Prune | None = Field(None, description="when a branch is given up")
    select: Literal["reward", "majority", "shortest"] = Field("reward", description="which answer is taken")
