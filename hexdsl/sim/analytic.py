"""Step times from the analytic cost model: a priced pipeline of stages that may all differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hexdsl.costs.gpu import Link
from hexdsl.costs.serving import Pipeline
from hexdsl.costs.stage import Array, StageCost
from hexdsl.sim.steps import Batch

PROBE = 1 << 16
"""Tokens of context at which the cost of reading the KV cache is taken; it is proportional to the context."""


class _Table:
    """A function of whole numbers, tabulated as far as it has been asked for."""

    def __init__(self, function: Callable[[Array], Array], step: int = 1) -> None:
        self._function, self._step = function, step
        self._values: list[float] = []

    def __call__(self, x: int) -> float:
        index, rest = divmod(x, self._step)
        if index + 1 >= len(self._values):
            self._grow(index + 2)
        low = self._values[index]
        return low + (self._values[index + 1] - low) * rest / self._step if rest else low

    def _grow(self, size: int) -> None:
        size = max(1024, 1 << (size - 1).bit_length())
        self._values = np.asarray(self._function(self._step * np.arange(size, dtype=np.float64))).tolist()


class _Layer:
    """Seconds of a layer on one kind of GPU: dense work by tokens, KV reads by context, attention by prompt length."""

    def __init__(self, cost: StageCost) -> None:
        self.dense = _Table(lambda tokens: cost.decode(np.maximum(tokens, 1.0), 0.0).total)
        self.kv_s = float(cost.decode(1.0, PROBE).total - cost.decode(1.0, 0.0).total) / PROBE
        token = float(cost.prefill(1.0))
        self.mixed = _Table(lambda c: cost.mixed(1.0, c), step=16)
        self.square = _Table(lambda s: np.maximum(cost.prefill(np.maximum(s, 1.0)) - token * s, 0.0), step=16)

    def seconds(self, tokens: int, batch: Batch) -> float:
        total = self.dense(tokens) + self.kv_s * batch.context
        chunks = batch.chunks
        if chunks and batch.decodes:
            total += batch.decodes * self.mixed(batch.context // batch.decodes)
        for length, history in chunks:
            total += self.square(history + length) - self.square(history)
        return total


class AnalyticSteps:
    """Step times of a pipeline: stage, link, stage, ...; the slowest kind of GPU sets a stage's pace.

    A step of T tokens costs the dense work of T tokens, whoever they belong to; decodes read their KV cache, less
    efficiently beside chunks; a chunk adds the attention of its prompt up to its end less that up to its start.
    """

    def __init__(self, line: Pipeline) -> None:
        self.stages = len(line.stages)
        self._layers = [[_Layer(replace(s, gpus=(gpu,))) for gpu in s.gpus] for s in line.stages]
        self._counts = [float(np.asarray(n)) for n in line.layers]
        self._head = _Table(lambda b: line.stages[-1].head(np.maximum(b, 1.0)).total)
        self._token_s = [line.stages[0].token_bytes / hop.bandwidth for hop in line.hops]
        self.latency_s = _latencies(line.hops)

    def seconds(self, batch: Batch) -> tuple[float, ...]:
        chunks = batch.chunks
        tokens = batch.decodes + sum(length for length, _ in chunks) if chunks else batch.decodes
        times = []
        for kinds, layers in zip(self._layers, self._counts, strict=True):
            slowest = max(kind.seconds(tokens, batch) for kind in kinds)
            times.append(layers * slowest)
        times[-1] += self._head(batch.decodes + len(chunks))
        if self._token_s:
            links = [token_s * tokens for token_s in self._token_s]
            return tuple(t for pair in zip(times, [*links, 0.0], strict=True) for t in pair)[:-1]
        return tuple(times)


def _latencies(hops: tuple[Link, ...]) -> tuple[float, ...]:
    """A link's latency follows the link."""
    return (*(x for hop in hops for x in (0.0, hop.latency_s)), 0.0)
