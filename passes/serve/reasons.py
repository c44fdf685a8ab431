"""Why a replica has the shape and the number of running requests that it has, as facts from the search."""

from __future__ import annotations

from collections.abc import Sequence

from hexdsl.ir.plan import Decision, Replica
from hexdsl.ir.spec.rule import Rule
from hexdsl.passes.serve.candidates import Candidate, Space
from hexdsl.passes.serve.rules import Rules


def replica_decisions(
    picks: Sequence[Candidate], replicas: Sequence[Replica], space: Space, rules: Rules
) -> tuple[Decision, ...]:
    """Two decisions for each distinct replica: its shape, and how many requests it runs together."""
    found: list[Decision] = []
    for candidate in dict.fromkeys(picks):
        names = ", ".join(r.name for r, c in zip(replicas, picks, strict=True) if c == candidate)
        found.append(Decision(by="groups", what=names, choice=_form(candidate, space), reason=_why_shape(candidate, space)))
        choice = f"{candidate.point.batch} requests run together"
        found.append(Decision(by="groups", what=names, choice=choice, reason=_why_batch(candidate, space, rules)))
    return tuple(found)


def _form(candidate: Candidate, space: Space) -> str:
    """`2 stages: 16 layers on 1 core, 14 layers on 1 core`."""
    parts = [
        f"{layers} layers on {tp} {space.problem.classes[cls].gpu.name}"
        for layers, (cls, tp) in zip(candidate.point.layers, candidate.point.shape.stages, strict=True)
    ]
    return f"{len(parts)} stage{'s' * (len(parts) > 1)}: " + ", ".join(parts)


def _why_shape(candidate: Candidate, space: Space) -> str:
    size = candidate.point.shape.devices
    smaller = [c for c in space.candidates if c.point.shape.devices < size]
    if not smaller:
        return "no smaller group of GPUs holds the model and the longest request"
    best = max(smaller, key=lambda c: c.point.rate / c.point.shape.devices)
    mine, theirs = candidate.point.rate / size, best.point.rate / best.point.shape.devices
    other = f"the best smaller group, {_form(best, space)}, serves {theirs:.3g}"
    return f"it serves {mine:.3g} requests/s per GPU; {other}"


def _why_batch(candidate: Candidate, space: Space, rules: Rules) -> str:
    """What stands against one step more: memory, a rule, or the engine's own limit."""
    batches = space.pricer.batches
    k = batches.index(candidate.point.batch)
    if k + 1 == len(batches):
        return "`max_batch` allows no more"
    following = next((c for c in space.candidates if _is_next(c, candidate, batches[k + 1])), None)
    if following is None:
        return f"the KV cache of {batches[k + 1]} does not fit"
    broken = _broken(following, space, rules)
    if broken is not None:
        return f"with {batches[k + 1]}, `{broken.text}` would not hold"
    return f"with {batches[k + 1]}, the plan would be no better"


def _is_next(other: Candidate, candidate: Candidate, batch: int) -> bool:
    return other.point.batch == batch and other.point.shape == candidate.point.shape


def _broken(candidate: Candidate, space: Space, rules: Rules) -> Rule | None:
    return next((r for r in (*rules.shape, *rules.point) if not space.holds(r, candidate)), None)
