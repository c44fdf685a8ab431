"""Answers to the questions about a finished serving plan, each computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.serve import Phase, Serve
from hexdsl.passes.serve.cut import Bottleneck, bottleneck
from hexdsl.passes.serve.idle import Unused, unused
from hexdsl.passes.serve.second import Phases, Second, phases_of, second_best
from hexdsl.passes.serve.what_if import Outcome, WhatIf, what_if
from hexdsl.passes.serve.worth import Worth, worth


def answers_to(plan: Plan, show: Callable[[str], None]) -> Answers | None:
    """The answers about a finished plan; None where it serves nothing."""
    return Answers(plan, show) if isinstance(plan.workflow, Serve) and plan.replicas else None


class Answers:
    """What binds, what more would be worth, why phases lie where they do, what was second best, why GPUs are idle.

    All but the first search again, which takes about as long as planning did; `show` is told what is under way.
    """

    def __init__(self, plan: Plan, show: Callable[[str], None] = lambda _: None) -> None:
        self.plan, self.show = plan, show

    @cached_property
    def _asked(self) -> WhatIf:
        self.show("explain: pricing the replicas that there might be")
        return what_if(self.plan)

    @cached_property
    def bottleneck(self) -> Bottleneck:
        return bottleneck(self.plan)

    @cached_property
    def worth(self) -> Worth:
        asked = self._asked
        self.show("explain: planning with more machines, looser rules and wider links")
        return worth(asked)

    @cached_property
    def phases(self) -> Phases:
        return phases_of(self._asked)

    @cached_property
    def apart(self) -> Outcome:
        """What a plan comes to whose phases may lie apart, where the spec names none."""
        phases = tuple(Phase.model_validate({"name": name}) for name in ("prefill", "decode"))
        self.show("explain: planning with phases on different replicas")
        return what_if(self.plan.with_(workflow=self.plan.workflow.with_(phase=phases))).outcome

    @cached_property
    def second(self) -> Second:
        return second_best(self._asked)

    @cached_property
    def idle(self) -> Unused:
        return unused(self._asked)

    @property
    def found(self) -> dict[str, Any]:
        """What was asked for so far, by name, as JSON has it."""
        names = ("bottleneck", "worth", "phases", "apart", "second", "idle")
        return {name: self.__dict__[name].model_dump(mode="json") for name in names if name in self.__dict__}
