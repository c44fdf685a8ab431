"""Operating points: what a shape of replica delivers at each number of running requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hexdsl.costs.arch import embedding_params, kv_shards, kv_values, layer_params
from hexdsl.costs.bursts import Burst, burst, step_budget
from hexdsl.costs.gpu import Link
from hexdsl.costs.memory import Slice, activation_bytes, budget_bytes
from hexdsl.costs.stage import StageCost, stage_cost
from hexdsl.passes.serve.layers import Bools, Floats, Ints, Pace, split_all
from hexdsl.passes.serve.problem import BLOCK, NodeClass, Problem, Role
from hexdsl.passes.serve.shapes import Shape

EVERY = 256
"""Up to so many running requests every number is tried on small inventories."""

STEP, WIDE_STEP = 1.02, 1.15
"""Ratio of neighbouring numbers of running requests beyond that, and on large inventories."""


@dataclass(frozen=True)
class Points:
    """A shape at each number of running requests that fits: arrays of K entries, `layers` of shape (K, stages)."""

    shape: Shape
    hops: tuple[Link, ...]
    batches: Ints
    layers: Ints
    tpot: Floats
    rate: Floats
    kv_tokens: Ints
    step_tokens: Ints
    most: Ints
    """Layers that each stage holds at the least KV cache, shape (stages,)."""
    role: Role = "both"


@dataclass(frozen=True)
class StageRoom:
    """Memory of one GPU of a stage in bytes: free for layers and KV cache, a layer, a layer's KV cache of one token.

    The first `light` layers, if the stage is the first, take `saving` less each.
    """

    free: float
    layer: float
    token: float
    light: int
    saving: float


@dataclass(frozen=True)
class Room:
    """The memory of a shape's stages, as arrays of shape (stages,)."""

    free: Floats
    layer: Floats
    token: Floats
    light: Floats
    saving: Floats

    def most(self, tokens: Floats) -> Ints:
        """Layers that each stage can hold together with the KV cache of so many tokens, shape (K, stages)."""
        free, kv = np.maximum(self.free, 0), tokens[:, None] * self.token
        many = np.floor((free + self.light * self.saving) / (self.layer + kv) * (1 + 1e-12))
        few = np.floor(free / (self.layer - self.saving + kv) * (1 + 1e-12))
        found = np.where(many >= self.light, many, np.minimum(few, self.light))
        return np.asarray(np.minimum(found, 1e6).astype(np.int64))

    def tokens(self, layers: Ints) -> Ints:
        """Tokens whose KV cache fits beside these layers on every stage, shape (K,)."""
        left = self.free - layers * self.layer + np.minimum(layers, self.light) * self.saving
        found = np.floor(np.min(left / (layers * self.token), axis=1) * (1 + 1e-12))
        return np.asarray(np.minimum(found, 1e15).astype(np.int64))


@dataclass(frozen=True)
class _Draft:
    """A shape whose layers are not split yet: where it fits among the numbers of running requests, and its pace."""

    shape: Shape
    hops: tuple[Link, ...]
    room: Room
    most: Ints
    fits: Bools
    pace: Pace


@dataclass(frozen=True)
class Pricer:
    """Prices shapes of one problem; the costs of a stage are shared among the shapes that have it."""

    problem: Problem
    stages: dict[tuple[int, int], StageCost] = field(default_factory=dict)
    paces: dict[tuple[int, int, int, Role], tuple[Floats, Floats, Floats]] = field(default_factory=dict)
    rooms: dict[tuple[int, int, bool, bool], StageRoom] = field(default_factory=dict)
    fine: bool = False
    """Whether every number of running requests is tried, whatever the size of the inventory."""

    def points(self, shapes: Iterable[Shape], role: Role = "both") -> tuple[Points, ...]:
        """The shapes that hold the model, each at every number of running requests that fits.

        They do both phases or only decode.
        """
        drafts = [d for shape in shapes if (d := self._draft(shape, role)) is not None]
        splits = split_all(self.problem.arch.layers, [d.pace for d in drafts])
        return tuple(self._split(draft, layers, role) for draft, layers in zip(drafts, splits, strict=True))

    def _draft(self, shape: Shape, role: Role) -> _Draft | None:
        hops = shape.hops(self.problem)
        if hops is None:
            return None
        room = self.room(shape)
        most = room.most(self.tokens)
        fits = (most.min(axis=1) >= 1) & (most.sum(axis=1) >= self.problem.arch.layers)
        return (
            _Draft(shape, hops, room, most[0], fits, self._pace(shape, hops, most, fits, role)) if fits.any() else None
        )

    def _split(self, draft: _Draft, layers: Ints, role: Role) -> Points:
        return self._priced(draft, layers, draft.pace.cycle(layers), draft.room.tokens(layers), role)

    def _priced(self, draft: _Draft, layers: Ints, tpot: Floats, kv_tokens: Ints, role: Role) -> Points:
        batches = self.batches[draft.fits]
        margin = self.problem.margin("capacity", self.problem.kind_of(draft.shape, role))
        rate = batches / (self.problem.output * tpot * margin)
        budget = self.budget(len(draft.hops) + 1)[draft.fits].astype(np.int64)
        return Points(draft.shape, draft.hops, batches, layers, tpot, rate, kv_tokens, budget, draft.most, role)

    def as_loaded(self, shape: Shape, layers: Sequence[int], kv_tokens: int, role: Role) -> Points | None:
        """A shape with its layers where they are, at every number of running requests that its KV cache holds."""
        hops, fits = shape.hops(self.problem), self.tokens <= kv_tokens
        if hops is None or not fits.any():
            return None
        held = np.tile(np.array(layers), (len(self.batches), 1))
        draft = _Draft(shape, hops, self.room(shape), held[0], fits, self._pace(shape, hops, held, fits, role))
        some = held[fits]
        return self._priced(draft, some, draft.pace.cycle(some), np.full(len(some), kv_tokens), role)

    def holds(self, shape: Shape) -> bool:
        """Whether a shape holds the model and the least KV cache."""
        most = self.room(shape).most(self.tokens[:1])[0]
        return bool(most.min() >= 1 and most.sum() >= self.problem.arch.layers >= len(most))

    @cached_property
    def batches(self) -> Ints:
        """The numbers of running requests that are tried, rising to the engine's most."""
        small, most = self.problem.small or self.fine, self.problem.engine.max_batch
        every, ratio = (EVERY, STEP) if small else (1, WIDE_STEP)
        found = list(range(1, min(every, most) + 1))
        while found[-1] < most:
            found.append(min(most, max(found[-1] + 1, int(found[-1] * ratio))))
        return np.array(found)

    @cached_property
    def tokens(self) -> Floats:
        """Tokens of KV cache that each number of running requests needs: theirs, or one request of full context."""
        needed = np.maximum(self.batches * self.problem.tokens_per_request, float(self.problem.context))
        return np.asarray(np.ceil(needed / BLOCK) * BLOCK)

    def stage(self, cls: int, tp: int) -> StageCost:
        """The cost of a layer on a group of `tp` GPUs of a class."""
        if (cls, tp) not in self.stages:
            node = self.problem.classes[cls]
            link = self.problem.network.inside[node.name]
            self.stages[cls, tp] = stage_cost((node.gpu,) * tp, link, self.problem.arch, node.formats)
        return self.stages[cls, tp]

    def room(self, shape: Shape) -> Room:
        """The memory of a shape's stages."""
        last = len(shape.stages) - 1
        rows = [self._stage_room(c, t, i == 0, i == last) for i, (c, t) in enumerate(shape.stages)]
        return Room(*(np.array([getattr(r, n) for r in rows]) for n in ("free", "layer", "token", "light", "saving")))

    def _stage_room(self, cls: int, tp: int, first: bool, last: bool) -> StageRoom:
        key = (cls, tp, first, last)
        if key not in self.rooms:
            self.rooms[key] = stage_room(self.problem, self.problem.classes[cls], tp, first, last)
        return self.rooms[key]

    def _pace(self, shape: Shape, hops: tuple[Link, ...], most: Ints, fits: Bools, role: Role) -> Pace:
        """What the stages of a shape cost at the numbers of running requests that fit."""
        depth = len(shape.stages)
        rounds = self.rounds(depth)[fits]
        paces = [self._paces(c, t, depth, role) for c, t in shape.stages]
        slope, peak = (np.stack([pace[k][fits] for pace in paces], axis=1) for k in (0, 1))
        fixed, hidden = np.zeros_like(slope), np.zeros_like(slope)
        fixed[:, -1] = paces[-1][2][fits]
        hidden[:, -1] = fixed[:, -1] * self.burst(depth).head[fits]
        sent, bursts = (s[fits] for s in self._sent(depth, shape.stages[0], role))
        extra = np.asarray(sum((sent / h.bandwidth + h.latency_s for h in hops), np.zeros_like(sent)))
        slowest = max((1 / h.bandwidth for h in hops), default=0.0)
        return Pace(slope, fixed, peak, hidden, most[fits], extra, rounds, rounds * bursts * slowest)

    def rounds(self, depth: int) -> Floats:
        """Micro-batches in flight at each number of running requests."""
        return np.asarray(np.minimum(float(depth), self.batches.astype(np.float64)))

    def each(self, depth: int) -> tuple[Floats, Floats]:
        """Sequences in a micro-batch, and prompts that come to it in a step, at each number of running requests."""
        sequences = self.batches / self.rounds(depth)
        return sequences, sequences / self.problem.output

    def budget(self, depth: int) -> Floats:
        """The token budget of a step at each number of running requests."""
        sequences, prompts = self.each(depth)
        return step_budget(depth, sequences, prompts * self.problem.prompt, self.problem.engine.step_tokens)

    def burst(self, depth: int) -> Burst:
        """How unevenly coming prompts hold up a stage, at each number of running requests."""
        sequences, prompts = self.each(depth)
        return burst(self.rounds(depth), sequences, prompts, self.problem.prompt, self.budget(depth))

    def _paces(self, cls: int, tp: int, depth: int, role: Role) -> tuple[Floats, Floats, Floats]:
        """Seconds of one layer, on average and in a burst of prompts, and of the output head."""
        key = (cls, tp, depth, role)
        if key not in self.paces:
            sequences, prompts = self.each(depth)
            cost = self.stage(cls, tp)
            decode = cost.decode(sequences, self.problem.load.context).total
            both = float(role == "both")
            prefill = both * prompts * cost.prefill(self.problem.prompt, self.problem.load.cv_prompt)
            self.paces[key] = (
                decode + prefill,
                decode + self.burst(depth).prompts * prefill,
                cost.head(sequences).total,
            )
        return self.paces[key]

    def _sent(self, depth: int, first: tuple[int, int], role: Role) -> tuple[Floats, Floats]:
        """Bytes that a micro-batch and its share of prompts send over a hop: on average, and in a burst."""
        sequences, prompts = self.each(depth)
        tokens, size = float(role == "both") * prompts * self.problem.prompt, self.stage(*first).token_bytes
        return np.asarray((sequences + tokens) * size), np.asarray(
            (sequences + self.burst(depth).prompts * tokens) * size
        )


def stage_room(problem: Problem, cls: NodeClass, tp: int, first: bool, last: bool) -> StageRoom:
    """The memory of one GPU of a stage.

    The heaviest layer stands for all, but that the first stage counts the lighter first layers of a mixture of experts
    as they are.  Only where such layers reach into the second stage is that more than it needs.
    """
    arch, formats = problem.arch, cls.formats
    copies = 1 if first and last and arch.tied else first + last
    tables = copies * embedding_params(arch) * formats.wide_bytes / tp
    stop = arch.layers if last else max(1, arch.layers - 1)
    working = float(activation_bytes(arch, formats, Slice(stop - 1, stop, tp), problem.engine))
    params = layer_params(arch)
    return StageRoom(
        free=budget_bytes(cls.gpu, tp, problem.engine) - tables - working,
        layer=float(params.max()) * formats.weight_bytes / tp,
        token=kv_values(arch) * formats.kv_bytes / float(kv_shards(arch, tp)),
        light=int((params < params.max()).sum()) if first else 0,
        saving=float(params.max() - params[0]) * formats.weight_bytes / tp if first else 0.0,
    )


def light_layers(problem: Problem) -> int:
    """Layers that are lighter than the heaviest."""
    params = layer_params(problem.arch)
    return int((params < params.max()).sum())
