"""A serving replica: time per output token, time to first token, and request rate, of a pipeline of unlike stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.arch import Arch
from hexdsl.costs.bursts import Burst, burst, chunks_of, step_budget
from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.memory import DEFAULT_ENGINE
from hexdsl.costs.network import transfer
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.stage import Array, Parts, StageCost, nothing, stage_cost
from hexdsl.ir.spec.workload import LOADS


@dataclass(frozen=True, slots=True)
class Load:
    """Mean prompt and output length in tokens; arrays for many loads at once.

    `cv` is how much the gaps between arrivals vary, `cv_prompt` the prompts and `cv_output` the answers: standard
    deviation over mean.
    """

    prompt: ArrayLike
    output: ArrayLike
    cv: float | tuple[float, ...] = 1.0
    cv_prompt: float = 0.0
    arrivals: float | None = None
    cv_output: float = 0.0

    @property
    def context(self) -> Array:
        """Mean tokens of context while decoding.

        Long answers are decoded for longer: over the steps of answers of n tokens, (n^2 / 2) / n on average.
        """
        return np.asarray(self.prompt) + np.asarray(self.output) * (1 + self.cv_output**2) / 2


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
    head: ArrayLike = 0.0
    """Seconds of `decode` that are the output head's."""

    @property
    def busy(self) -> Array:
        return self.decode.total + self.prefill

    def held(self, burst: Burst) -> Array:
        """Seconds from one step to the next where prompts come in bursts, at least the mean."""
        head = np.asarray(self.head, dtype=np.float64)
        body = self.decode.total - head
        return np.asarray(np.maximum(self.busy, body + burst.head * head + burst.prompts * self.prefill))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Priced stages in order, their layers, and the links between neighbours.

    The running sequences form up to one micro-batch a stage.  In steady state each decoded token brings 1/output
    prompts to prefill (continuous batching), so a micro-batch of b sequences keeps stage i busy for
    d_i(b) + (b/output) p_i, with d_i a decode step and p_i a prompt, and the links likewise.  With m micro-batches a
    cycle, that is the time per output token, takes the whole path or m times d_i(b) + g (b/output) p_i of its busiest
    member, whichever is longer, with g >= 1 for prompts that come in bursts (`hexdsl.costs.bursts.burst`).
    `layers` may hold an array for each stage, with one entry for each entry of the `batch` that is asked about.
    `step_tokens` is the token budget of a step; None stands for the one that suits the batch.
    """

    stages: tuple[StageCost, ...]
    layers: tuple[ArrayLike, ...]
    hops: tuple[Link, ...] = ()
    step_tokens: ArrayLike | None = None

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
        visits, burst = self.visits(batch, load, prefill), self.burst(batch, load)
        path = np.sum([v.busy + v.latency for v in visits], axis=0)
        busiest = np.max([v.held(burst) for v in visits], axis=0)
        return np.asarray(np.maximum(path, self.micro_batches(batch) * busiest))

    def budget(self, batch: ArrayLike, load: Load) -> Array:
        """Tokens that a step may hold."""
        if self.step_tokens is not None:
            return np.asarray(self.step_tokens, dtype=np.float64)
        b = np.asarray(batch) / self.micro_batches(batch)
        tokens = b / np.asarray(load.output) * np.asarray(load.prompt)
        return step_budget(len(self.stages), b, tokens, DEFAULT_ENGINE.step_tokens)

    def burst(self, batch: ArrayLike, load: Load) -> Burst:
        """How prompts that come unevenly hold up the busiest stage; not at all without pipeline stages."""
        lanes = self.micro_batches(batch)
        b = np.asarray(batch) / lanes
        return burst(lanes, b, b / np.asarray(load.output), load.prompt, self.budget(batch, load))

    def rate(self, batch: ArrayLike, load: Load, prefill: bool = True) -> Array:
        """Requests a second at so many running sequences."""
        return np.asarray(np.asarray(batch) / (np.asarray(load.output) * self.tpot(batch, load, prefill)))

    def first_token(self, prompt: ArrayLike) -> Array:
        """Seconds from the start of a prompt to its first token, when nothing else runs."""
        stages = [np.asarray(n) * s.alone(prompt) for n, s in zip(self.layers, self.stages, strict=True)]
        size = np.asarray(prompt) * self.stages[0].token_bytes
        links = [transfer(hop, size) for hop in self.hops]
        return np.asarray(sum(stages + links) + self.stages[-1].head(1.0).total)

    def prompt_gap(self, prompt: ArrayLike, cv: float = 0.0) -> Array:
        """Seconds between prompts at the fastest: what a prompt adds to the busiest stage or link."""
        stages = [np.asarray(n) * s.prefill(prompt, cv) for n, s in zip(self.layers, self.stages, strict=True)]
        size = np.asarray(prompt) * self.stages[0].token_bytes
        return np.asarray(reduce(np.maximum, stages + [size / hop.bandwidth for hop in self.hops]))

    def turn(self, batch: ArrayLike, load: Load, step: ArrayLike) -> Array:
        """Seconds between prompts at the fastest beside running sequences, whose steps they share.

        A prompt of s tokens takes s/room steps, whose decodes take what prompts leave of `step`, that is of `tpot`.
        """
        lanes, gap = self.micro_batches(batch), self.prompt_gap(load.prompt, load.cv_prompt)
        b = np.asarray(batch) / lanes
        room = np.maximum(1.0, self.budget(batch, load) - b)
        decode = np.maximum(0.0, np.asarray(step) / lanes - b / np.asarray(load.output) * gap)
        return np.asarray(gap + decode * np.asarray(load.prompt) / room)

    def more_steps(self, batch: ArrayLike, load: Load) -> Array:
        """Steps that a prompt needs beyond its first, in a pipeline; one stage computes it about as quickly in one."""
        if len(self.stages) == 1:
            return np.zeros_like(np.asarray(batch, dtype=np.float64))
        b = np.asarray(batch) / self.micro_batches(batch)
        return chunks_of(load.prompt, b, self.budget(batch, load)) - 1

    def queue(self, batch: ArrayLike, load: Load, rate: ArrayLike | None, step: ArrayLike) -> Array:
        """Mean seconds that a prompt waits for others, with `step` the `tpot`.

        A closed loop of `batch` clients starts with a burst; open arrivals at `rate` wait as in `waiting`.
        """
        if rate is None:
            return np.asarray(self.overheads.burst * np.asarray(batch) * self.prompt_gap(load.prompt))
        return waiting(self.turn(batch, load, step), rate, load)

    def ttft(
        self, batch: ArrayLike, load: Load, rate: ArrayLike | None = None, step: ArrayLike | None = None,
        waits: float = 2.0,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Low, expected and high mean seconds to the first token; `step` is `tpot(batch, load)` where it is known.

        Low is a prompt that nothing delays.  High allows the engine two steps before it takes a prompt, three times
        the fixed cost, and `waits` times the queue.
        """
        alone, over = self.first_token(load.prompt), self.overheads
        step = self.tpot(batch, load) if step is None else np.asarray(step)
        queue, later = self.queue(batch, load, rate, step), self.more_steps(batch, load) * step
        expected = alone + over.first_token_s + over.wait_steps * step + later + queue
        return alone, expected, alone + 3 * over.first_token_s + 2 * step + later + waits * queue

    def _stage_visit(self, i: int, b: Array, prompts: Array, load: Load) -> Visit:
        cost, layers = self.stages[i], np.asarray(self.layers[i], dtype=np.float64)
        head = cost.head(b) if i == len(self.stages) - 1 else nothing(b)
        step = head.plus(cost.decode(b, load.context), layers)
        prefill = prompts * layers * cost.prefill(load.prompt, load.cv_prompt)
        return Visit(step, prefill, np.zeros_like(b), cost.provenance, head.total)

    def _link_visit(self, hop: Link, b: Array, prompts: Array, load: Load) -> Visit:
        size = self.stages[0].token_bytes / hop.bandwidth
        zero = nothing(b)
        step = Parts(zero.weights, zero.compute, zero.kv, b * size, zero.overhead)
        return Visit(step, prompts * np.asarray(load.prompt) * size, np.full_like(b, hop.latency_s), "given")


def waiting(service_s: ArrayLike, rate: ArrayLike, load: Load) -> Array:
    """Mean seconds in a queue with one server; for ever where more arrives than it can take.

    Gaps that vary less than those of Poisson arrivals shorten the queue as in Allen and Cunneen's formula (Allen,
    "Probability, Statistics, and Queueing Theory", 1990, section 5.3).  Those that vary more stand for batches of
    geometric size: a server that gets a share of the requests gets that share of a batch, for which the formula is
    exact, as it is for Poisson arrivals (M/G/1).
    """
    service = np.asarray(service_s, dtype=np.float64)
    busy = np.asarray(rate) * service
    square = np.interp(busy, LOADS, np.broadcast_to(load.cv, len(LOADS))) ** 2
    share = 1.0 if load.arrivals is None else np.asarray(rate) / load.arrivals
    spread = busy * (np.minimum(square, 1.0) + load.cv_prompt**2) + share * np.maximum(square - 1, 0.0)
    return np.where(busy < 1, service * spread / (2 * np.maximum(1 - busy, 1e-9)), np.inf)


def seat_wait(running: ArrayLike, seats: ArrayLike, rate: ArrayLike, load: Load) -> Array:
    """Mean seconds that a request waits for one of the seats that the batch or the KV cache has.

    `running` of the c seats are taken on average at `rate` requests per second (Sakasegawa's formula for a queue with
    several servers, "An approximation formula L = a rho^b / (1 - rho)", 1977).  A queue without any seat to spare grows
    without limit, which no single figure tells: the share in use counts as at most 1 - 1 / (2 (c + 1)), and what comes
    of a load at the brim is for the simulation to say.
    """
    c, mean = np.asarray(seats, dtype=np.float64), np.asarray(running, dtype=np.float64)
    busy = np.minimum(mean / c, 1 - 1 / (2 * (c + 1)))
    share = busy ** (np.sqrt(2 * (c + 1)) - 1) / (c * (1 - busy))
    spread = (min(1.0, float(np.max(load.cv)) ** 2) + load.cv_output**2) / 2
    return np.asarray(spread * share * mean / np.maximum(np.asarray(rate), 1e-12))


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
