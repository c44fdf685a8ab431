"""Operating points: what a shape of replica delivers at each number of running requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


from hexdsl.costs.arch import embedding_params, kv_shards, kv_values, layer_params
from hexdsl.costs.gpu import Link
from hexdsl.costs.memory import Slice, activation_bytes, budget_bytes
from hexdsl.costs.serving import Pipeline
from hexdsl.costs.stage import StageCost, stage_cost
from hexdsl.passes.serve.layers import Floats, Ints, split_layers
from hexdsl.passes.serve.problem import NodeClass, Problem
from hexdsl.passes.serve.shapes import Shape

FINE, COARSE = 1.3, 2.0
"""Ratio of neighbouring numbers of running requests, on small and on large inventories."""


@dataclass(frozen=True)
class Point:
    """A shape with its layers at one number of running requests: seconds per output token, requests a second."""

    shape: Shape
    layers: tuple[int, ...]
    batch: int
    tpot: float
    rate: float
    kv_tokens: int


@dataclass(frozen=True)
class Room:
    """Per stage: bytes left once everything but layers and KV cache is held, and bytes of a layer and of a KV token."""

    free: Floats
    layer: Floats
    token: Floats

    def most(self, tokens: float) -> Ints:
        """Layers that each stage can hold together with the KV cache of so many tokens."""
        room = np.floor(np.maximum(self.free, 0) / (self.layer + tokens * self.token) * (1 + 1e-12))
        return np.minimum(room, 10_000).astype(np.int64)

    def tokens(self, layers: Ints) -> int:
        """Tokens whose KV cache fits beside these layers on every stage."""
        left = self.free - layers * self.layer
        return int(np.floor(np.min(left / (layers * self.token)) * (1 + 1e-12)))


@dataclass(frozen=True)
class Pricer:
    """Prices shapes of one problem; the costs of a stage are shared among the shapes that have it."""

    problem: Problem
    stages: dict[tuple[int, int], StageCost] = field(default_factory=dict)
    paces: dict[tuple[int, int, int], tuple[Floats, Floats]] = field(default_factory=dict)
    rooms: dict[tuple[int, int, bool, bool], tuple[float, float, float]] = field(default_factory=dict)

    def points(self, shape: Shape) -> Iterator[Point]:
        """The shape at each number of running requests that fits, few first."""
        hops = shape.hops(self.problem)
        if hops is None:
            return
        room, output = self.room(shape), float(np.asarray(self.problem.load.output))
        for k, batch in enumerate(self.batches):
            tokens = max(batch * self.problem.tokens_per_request, float(self.problem.context))
            found = self._layers(shape, hops, k, room.most(tokens))
            if found is None:
                return
            layers, tpot = found
            yield Point(shape, tuple(map(int, layers)), batch, tpot, batch / (output * tpot), room.tokens(layers))

    @cached_property
    def batches(self) -> tuple[int, ...]:
        """The numbers of running requests that are tried: all small ones, then in ratio, and the engine's most."""
        ratio, most = (FINE if self.problem.small else COARSE), self.problem.engine.max_batch
        found, value = [1], 1.0
        while value * ratio < most:
            value = max(value * ratio, found[-1] + 1)
            found.append(int(value))
        return tuple(sorted({*found, most}))

    def line(self, shape: Shape, layers: tuple[int, ...], hops: tuple[Link, ...]) -> Pipeline:
        """The shape with these layers, priced."""
        return Pipeline(tuple(self.stage(c, t) for c, t in shape.stages), layers, hops)

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
        return Room(*(np.array(column) for column in zip(*rows, strict=True)))

    def _stage_room(self, cls: int, tp: int, first: bool, last: bool) -> tuple[float, float, float]:
        key = (cls, tp, first, last)
        if key not in self.rooms:
            self.rooms[key] = stage_room(self.problem, self.problem.classes[cls], tp, first, last)
        return self.rooms[key]

    def _layers(self, shape: Shape, hops: tuple[Link, ...], k: int, most: Ints) -> tuple[Ints, float] | None:
        """The best split at the k-th number of running requests, and the time of its cycle."""
        if np.any(most < 1) or most.sum() < self.problem.arch.layers:
            return None
        depth, rounds = len(shape.stages), float(self.rounds(len(shape.stages))[k])
        slopes = np.array([self._paces(c, t, depth)[0][k] for c, t in shape.stages])
        fixed = np.zeros(depth)
        fixed[-1] = self._paces(*shape.stages[-1], depth)[1][k]
        sent = self._sent(depth)[k]
        extra = sum(sent / hop.bandwidth + hop.latency_s for hop in hops)
        found = split_layers(self.problem.arch.layers, slopes, fixed, most, extra, rounds)
        if found is None or not hops:
            return found
        return found[0], max(found[1], rounds * max(sent / hop.bandwidth for hop in hops))

    def rounds(self, depth: int) -> Floats:
        """Micro-batches in flight at each number of running requests."""
        return np.minimum(float(depth), np.array(self.batches, dtype=np.float64))

    def _paces(self, cls: int, tp: int, depth: int) -> tuple[Floats, Floats]:
        """Busy seconds of one layer, and of the output head, at each number of running requests."""
        key = (cls, tp, depth)
        if key not in self.paces:
            each = np.array(self.batches) / self.rounds(depth)
            load, cost = self.problem.load, self.stage(cls, tp)
            prompts = each / float(np.asarray(load.output))
            layer = cost.decode(each, load.context).total + prompts * cost.prefill(load.prompt)
            self.paces[key] = (layer, cost.head(each).total)
        return self.paces[key]

    def _sent(self, depth: int) -> Floats:
        """Bytes that a micro-batch and its share of prompts send over a hop."""
        each = np.array(self.batches) / self.rounds(depth)
        load = self.problem.load
        prompts = each / float(np.asarray(load.output)) * float(np.asarray(load.prompt))
        return np.asarray((each + prompts) * self.stage(0, 1).token_bytes)


def stage_room(problem: Problem, cls: NodeClass, tp: int, first: bool, last: bool) -> tuple[float, float, float]:
    """Bytes per GPU of a stage: free for layers and KV cache; of one layer; of one token's KV cache in one layer.

    The heaviest layer stands for all (the first layers of a mixture of experts may be lighter), so that a split
    within this room always fits.
    """
    arch, formats, most = problem.arch, cls.formats, problem.arch.layers
    copies = 1 if first and last and arch.tied else first + last
    tables = copies * embedding_params(arch) * formats.wide_bytes / tp
    stop = most if last else max(1, most - 1)
    working = float(activation_bytes(arch, formats, Slice(stop - 1, stop, tp), problem.engine))
    layer = float(layer_params(arch).max()) * formats.weight_bytes / tp
    token = kv_values(arch) * formats.kv_bytes / float(kv_shards(arch, tp))
    return budget_bytes(cls.gpu, tp, problem.engine) - tables - working, layer, token


def usd_per_h(shape: Shape, problem: Problem) -> float:
    """Price of a replica for an hour; NaN where a price is missing."""
    return float(sum(_or_nan(problem.classes[s.cls].usd_per_h) * s.size for s in shape.segments))


def watts(shape: Shape, problem: Problem) -> float:
    """Board power of a replica; NaN where a figure is missing."""
    return float(sum(_or_nan(problem.classes[s.cls].watts) * s.size for s in shape.segments))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


