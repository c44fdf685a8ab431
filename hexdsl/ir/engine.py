"""What engines can run, as plain data that both the planner and the engines read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from hexdsl.ir.spec.target import Target


class Part(NamedTuple):
    """A stage of a replica as an engine sees it: any key of its machine, the number formats there, its TP degree."""

    machine: object
    formats: object
    tp: int


class Objection(NamedTuple):
    """Why a replica cannot run, as the end of a sentence about it, and what the user may change."""

    what: str
    fix: str


FEWER_STAGES = "add a rule such as `pp == 1`"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the replicas of an engine must be like.  False means that there is no such limit."""

    one_tp: bool = False
    """All stages have the same TP degree."""
    equal_machines: bool = False
    """Each machine holds neighbouring stages, and as many GPUs as every other machine of the replica."""
    one_format: bool = False
    """All stages have the same number formats."""
    one_stage_halves: bool = False
    """A replica that only prefills or only decodes has one stage."""

    def allows(self, parts: Sequence[Part], role: str = "both") -> bool:
        """Whether a replica of these stages, in order, can run."""
        return next(self.against(parts, role), None) is None

    def against(self, parts: Sequence[Part], role: str = "both") -> Iterator[Objection]:
        """What speaks against a replica of these stages."""
        degrees = dict.fromkeys(part.tp for part in parts)
        if self.one_tp and len(degrees) > 1:
            yield Objection(f"has stages of {_and(degrees)} GPUs", f"add a rule such as `tp == {min(degrees)}`")
        machines = [(key, sum(part.tp for part in group)) for key, group in groupby(parts, lambda part: part.machine)]
        if self.equal_machines and len({key for key, _ in machines}) < len(machines):
            yield Objection("comes back to a machine that earlier stages have left", FEWER_STAGES)
        elif self.equal_machines and len({gpus for _, gpus in machines}) > 1:
            yield Objection(f"takes {_and(gpus for _, gpus in machines)} GPUs of its machines", FEWER_STAGES)
        if self.one_format and len({part.formats for part in parts}) > 1:
            yield Objection("has stages with different number formats", "name `weights`, `activations` and `kv`")
        if self.one_stage_halves and role != "both" and len(parts) > 1:
            yield Objection(f"only {role}s, in {len(parts)} stages", "add the rule `pp == 1`")


LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "torch": Limits(one_format=True),
        "vllm": Limits(one_tp=True, equal_machines=True, one_format=True, one_stage_halves=True),
    }
)
"""Limits by engine; one that is missing has none that a planner needs to know."""


def limits_of(targets: Iterable[Target]) -> Limits:
    """The limits of all the targets of a workflow together, since its plan is for each of them."""
    known = [LIMITS[target.name] for target in targets if target.name in LIMITS]
    return Limits(**{field.name: any(getattr(one, field.name) for one in known) for field in fields(Limits)})


def _and(numbers: Iterable[int]) -> str:
    *most, last = (str(number) for number in numbers)
    return f"{', '.join(most)} and {last}"
