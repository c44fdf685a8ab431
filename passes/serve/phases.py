"""Operating points of replicas that do one phase only: prefill for latency, decode for throughput.

HexGen-2 (ICLR 2025, section 3) and ThunderServe (MLSys 2025) put the two phases on different replicas.  A decode
replica is a pipeline without prompts.  A prefill replica takes prompts one after the other, each stage one at a time,
so that it serves 1 / (seconds of a prompt on its busiest stage) at most; at a share of that, prompts wait as in a queue
with one server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.passes.serve.layers import Ints, Pace, split_all
from hexdsl.passes.serve.points import Points, Pricer, Room
from hexdsl.passes.serve.problem import BLOCK
from hexdsl.passes.serve.shapes import Shape

LOADS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
"""Shares of a prefill replica's capacity at which it may be run."""

HELD, HELD_PER_STAGE = 8, 4
"""Prompts whose KV caches a prefill replica has room for: those that are computed, and those on their way.

Prompts of unlike length leave bubbles between stages unless some wait: so many wait for each stage of a long pipeline.
"""


def held(shape: Shape) -> int:
    """Prompts that a prefill replica of this shape has room for."""
    return max(HELD, HELD_PER_STAGE * len(shape.stages))


@dataclass(frozen=True)
class _Draft:
    """A shape whose layers are not split yet."""

    shape: Shape
    room: Room
    pace: Pace


def prefill_points(pricer: Pricer, shapes: Iterable[Shape]) -> Iterator[Points]:
    """The shapes that hold the model and some prompts, each at the loads of `LOADS`."""
    drafts = [d for shape in shapes if (d := _draft(pricer, shape)) is not None]
    splits = split_all(pricer.problem.arch.layers, [d.pace for d in drafts])
    for draft, split in zip(drafts, splits, strict=True):
        layers = np.repeat(split, len(LOADS), axis=0)
        yield _at_loads(pricer, draft.shape, draft.pace, layers, draft.room.tokens(layers))


def _draft(pricer: Pricer, shape: Shape) -> _Draft | None:
    problem = pricer.problem
    if shape.hops(problem) is None:
        return None
    room = pricer.room(shape)
    tokens = np.array([np.ceil(max(problem.context, held(shape) * problem.prompt) / BLOCK) * BLOCK])
    most = room.most(tokens)
    if most.min() < 1 or most.sum() < problem.arch.layers:
        return None
    return _Draft(shape, room, _pace(pricer, shape, most[0]))


def prefill_as_loaded(pricer: Pricer, shape: Shape, layers: Sequence[int], kv_tokens: int) -> Points | None:
    """A shape with its layers where they are, at each of the loads; None where some prompts find no room."""
    problem = pricer.problem
    if shape.hops(problem) is None or kv_tokens < max(problem.context, held(shape) * problem.prompt):
        return None
    there = np.array(layers)
    kept = np.tile(there, (len(LOADS), 1))
    return _at_loads(pricer, shape, _pace(pricer, shape, there), kept, np.full(len(LOADS), kv_tokens))


def _at_loads(pricer: Pricer, shape: Shape, pace: Pace, layers: Ints, kv_tokens: Ints) -> Points:
    problem, hops, many = pricer.problem, shape.hops(pricer.problem), len(LOADS)
    assert hops is not None
    gap = float((pace.peak * layers[:1]).max())
    gap = max([gap, *(problem.prompt * pricer.stage(*shape.stages[0]).token_bytes / h.bandwidth for h in hops)])
    return Points(
        shape=shape,
        hops=hops,
        batches=np.full(many, held(shape)),
        layers=layers,
        tpot=np.full(many, gap),
        rate=LOADS / (gap * problem.margin("capacity", problem.kind_of(shape, "prefill"))),
        kv_tokens=kv_tokens,
        step_tokens=np.full(many, problem.engine.step_tokens),
        most=pace.most[0],
        role="prefill",
    )


def _pace(pricer: Pricer, shape: Shape, most: Ints) -> Pace:
    """Prompts on each stage: alone for the path, and among others for the busiest stage, which decides."""
    problem, one = pricer.problem, np.ones(1)
    costs = [pricer.stage(c, t) for c, t in shape.stages]
    slope = np.array([[float(c.alone(problem.prompt)) for c in costs]])
    peak = np.array([[float(c.prefill(problem.prompt, problem.load.cv_prompt)) for c in costs]])
    zero = np.zeros_like(slope)
    return Pace(slope, zero, peak, zero, most[None, :], 0 * one, BUSIEST * one, 0 * one)


BUSIEST = 1e3
"""Weight of the busiest stage over the path: capacity comes first."""
