"""A serving replica: time per output token, time to first token, and request rate, of a pipeline of unlike stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.arch import Arch
from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.network import transfer
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.stage import Array, Parts, StageCost, nothing, stage_cost


@dataclass(frozen=True, slots=True)
class Load:
    """Mean prompt and output length in tokens; arrays for many loads at once."""

    prompt: ArrayLike
    output: ArrayLike

    @property
    def context(self) -> Array:
        """Mean tokens of context while decoding."""
        return np.asarray(self.prompt) + np.asarray(self.output) / 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Some layers on a tensor-parallel group whose GPUs are joined by `link`; None means PCIe."""

    gpus: tuple[Gpu, ...]
    layers: int
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What one micro-batch costs a stage or a link in a cycle: its decode step and its share of prompts.

    `latency` delays the micro-batch but keeps nothing busy.
    """

    decode: Parts
    prefill: Array
    latency: Array
    provenance: Provenance

    @property
    def busy(self) -> Array:
        return self.decode.total + self.prefill


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Priced stages in order, their layers, and the links between neighbours.

    The running sequences form up to one micro-batch a stage.  In steady state each decoded token brings 1/output
    prompts to prefill (continuous batching), so a micro-batch of b sequences keeps stage i busy for
    d_i(b) + (b/output) p_i, with d_i a decode step and p_i a prompt, and the links likewise.  With m micro-batches a
    cycle, that is the time per output token, takes the whole path or m times its busiest member, whichever is longer.
    `layers` may hold an array for each stage, with one entry for each entry of the `batch` that is asked about.
    """

    stages: tuple[StageCost, ...]
    layers: tuple[ArrayLike, ...]
    hops: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.stages) or len(self.hops) != len(self.stages) - 1:
            raise ValueError("a pipeline has as many layer counts as stages, and one link fewer")

    @property
    def overheads(self) -> Overheads:
        return self.stages[-1].overheads

    @property
    def provenance(self) -> Provenance:
        return weakest(*(s.provenance for s in self.stages))

    def prompt_trust(self, load: Load) -> Provenance:
        """Where the time of a prompt of this load comes from."""
        found = (g.efficiency.attention_trust(load.prompt) for s in self.stages for g in s.gpus)
        return weakest(self.provenance, *found)

    def micro_batches(self, batch: ArrayLike) -> Array:
        return np.minimum(float(len(self.stages)), np.maximum(np.asarray(batch, dtype=np.float64), 1.0))

    def visits(self, batch: ArrayLike, load: Load, prefill: bool = True) -> tuple[Visit, ...]:
        """Stages and links in the order in which a micro-batch meets them."""
        b = np.asarray(batch, dtype=np.float64) / self.micro_batches(batch)
        prompts = b / np.asarray(load.output) * float(prefill)
        stages = [self._stage_visit(i, b, prompts, load) for i in range(len(self.stages))]
        links = [self._link_visit(hop, b, prompts, load) for hop in self.hops]
        return tuple(v for pair in zip_longest(stages, links) for v in pair if v is not None)

    def tpot(self, batch: ArrayLike, load: Load, prefill: bool = True) -> Array:
        """Seconds per output token at so many running sequences; `prefill=False` for groups that only decode."""
        visits = self.visits(batch, load, prefill)
        path = np.sum([v.busy + v.latency for v in visits], axis=0)
        busiest = np.max([v.busy for v in visits], axis=0)
        return np.asarray(np.maximum(path, self.micro_batches(batch) * busiest))

    def rate(self, batch: ArrayLike, load: Load, prefill: bool = True) -> Array:
        """Requests a second at so many running sequences."""
        return np.asarray(np.asarray(batch) / (np.asarray(load.output) * self.tpot(batch, load, prefill)))

    def first_token(self, prompt: ArrayLike) -> Array:
        """Seconds from the start of a prompt to its first token, when nothing else runs."""
        stages = [np.asarray(n) * s.alone(prompt) for n, s in zip(self.layers, self.stages, strict=True)]
        size = np.asarray(prompt) * self.stages[0].token_bytes
        links = [transfer(hop, size) for hop in self.hops]
        return np.asarray(sum(stages + links) + self.stages[-1].head(1.0).total)

    def prompt_gap(self, prompt: ArrayLike) -> Array:
        """Seconds between prompts at the fastest: what a prompt adds to the busiest stage or link."""
        stages = [np.asarray(n) * s.prefill(prompt) for n, s in zip(self.layers, self.stages, strict=True)]
        size = np.asarray(prompt) * self.stages[0].token_bytes
        return np.asarray(reduce(np.maximum, stages + [size / hop.bandwidth for hop in self.hops]))

    def queue(self, batch: ArrayLike, load: Load, rate: ArrayLike | None) -> Array:
        """Mean seconds that a prompt waits for others.

        A closed loop of `batch` clients starts with a burst; open Poisson arrivals at `rate` wait as in an M/D/1
        queue, for ever where prompts alone are more than the busiest stage can take.
        """
        gap = self.prompt_gap(load.prompt)
        if rate is None:
            return np.asarray(self.overheads.burst * np.asarray(batch) * gap)
        busy = np.asarray(rate) * gap
        return np.where(busy < 1, gap * busy / (2 * np.maximum(1 - busy, 1e-9)), np.inf)

    def ttft(
        self, batch: ArrayLike, load: Load, rate: ArrayLike | None = None, step: ArrayLike | None = None
    ) -> tuple[Array, Array, Array]:
        """Low, expected and high mean seconds to the first token; `step` is `tpot(batch, load)` where it is known.

        Low is a prompt that nothing delays.  High allows the engine two steps before it takes a prompt, three times
        the fixed cost, and twice the queue.
        """
        alone, over = self.first_token(load.prompt), self.overheads
        step = self.tpot(batch, load) if step is None else np.asarray(step)
        queue = self.queue(batch, load, rate)
        expected = alone + over.first_token_s + over.wait_steps * step + queue
        return alone, expected, alone + 3 * over.first_token_s + 2 * step + 2 * queue

    def _stage_visit(self, i: int, b: Array, prompts: Array, load: Load) -> Visit:
        cost, layers = self.stages[i], np.asarray(self.layers[i], dtype=np.float64)
        head = cost.head(b) if i == len(self.stages) - 1 else nothing(b)
        step = head.plus(cost.decode(b, load.context), layers)
        return Visit(step, prompts * layers * cost.prefill(load.prompt), np.zeros_like(b), cost.provenance)

    def _link_visit(self, hop: Link, b: Array, prompts: Array, load: Load) -> Visit:
        size = self.stages[0].token_bytes / hop.bandwidth
        zero = nothing(b)
        step = Parts(zero.weights, zero.compute, zero.kv, b * size, zero.overhead)
        return Visit(step, prompts * np.asarray(load.prompt) * size, np.full_like(b, hop.latency_s), "given")


def pipeline(
    stages: Sequence[Stage],
    hops: Sequence[Link],
    arch: Arch,
    formats: Formats,
    overheads: Overheads | None = None,
) -> Pipeline:
    """Price a replica; `hops` are the links between neighbouring stages.

    Raises ValueError where a GPU has no compute rate in a fitting format or the number of links is wrong.
    """
    priced = tuple(stage_cost(stage.gpus, stage.link, arch, formats, overheads) for stage in stages)
    return Pipeline(priced, tuple(stage.layers for stage in stages), tuple(hops))
