"""Why a replica has the shape and the number of running requests that it has, as facts from the search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hexdsl.ir.plan import Decision, Replica
from hexdsl.passes.serve.candidates import Candidate, Options
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.question import Question


def replica_decisions(
    chosen: Sequence[Candidate], replicas: Sequence[Replica], question: Question
) -> tuple[Decision, ...]:
    """Two decisions for each distinct replica: its shape, and how many requests it runs together."""
    found: list[Decision] = []
    for candidate in dict.fromkeys(chosen):
        names = ", ".join(r.name for r, c in zip(replicas, chosen, strict=True) if c == candidate)
        form = _form(candidate, question.space.problem)
        found.append(Decision(by="groups", what=names, choice=form, reason=_why_shape(candidate, question)))
        together = f"up to {candidate.batch} requests together"
        found.append(Decision(by="groups", what=names, choice=together, reason=_why_batch(candidate, question)))
    return tuple(found)


def _form(candidate: Candidate, problem: Problem) -> str:
    """`16 layers on 1 core, 14 on 1 core`."""
    parts = [
        f"{layers}{'' if i else ' layers'} on {tp} {problem.classes[cls].gpu.name}"
        for i, (layers, (cls, tp)) in enumerate(zip(candidate.layers, candidate.shape.stages, strict=True))
    ]
    does = "" if candidate.role == "both" else f"{candidate.role} on "
    return does + ", ".join(parts)


def _why_shape(candidate: Candidate, question: Question) -> str:
    size = candidate.shape.devices
    alike = [o for o in question.space.options if o.points.role == candidate.role]
    smaller = [o for o in alike if o.points.shape.devices < size]
    if not smaller:
        return "no smaller group of GPUs that was considered holds the model and the longest request"
    best = max(smaller, key=lambda o: float(o.points.rate.max()) / o.points.shape.devices)
    theirs = float(best.points.rate.max()) / best.points.shape.devices
    return (
        f"{candidate.rate / size:.3g} requests/s per GPU; the best smaller group, "
        f"{_gpus(best, question.space.problem)}, reaches {theirs:.3g} without your rules"
    )


def _gpus(options: Options, problem: Problem) -> str:
    stages = (f"{tp} {problem.classes[cls].gpu.name}" for cls, tp in options.points.shape.stages)
    return " + ".join(stages)


def _why_batch(candidate: Candidate, question: Question) -> str:
    """What stands against running more: the engine's limit, memory, a rule, or nothing but the load."""
    if candidate.role == "prefill":
        return (
            f"{candidate.rate:.3g} requests/s keep its busiest stage at work, and prompts wait no longer than allowed"
        )
    position = next(
        k for k, o in enumerate(question.space.options)
        if o.points.role == candidate.role and o.points.shape == candidate.shape
    )  # fmt: skip
    options = question.space.options[position]
    row = int(np.searchsorted(options.points.batches, candidate.batch))
    if candidate.batch >= question.space.problem.engine.max_batch:
        return "`max_batch` allows no more"
    if row + 1 == len(options.points.batches):
        return "the KV cache of more does not fit"
    for rule in question.rules.filters:
        if not question.space.met(rule)[position][row + 1]:
            return f"with {int(options.points.batches[row + 1])}, `{rule.text}` would not hold"
    return "the objectives gain nothing from more"
