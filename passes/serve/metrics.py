"""What a replica's latency metrics come to, with the statistic that a rule names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.network import transfer
from hexdsl.costs.predict import tpot_band
from hexdsl.costs.serving import Load, Pipeline, seat_wait, waiting
from hexdsl.ir.spec.rule import Metric
from hexdsl.ir.spec.workload import Length
from hexdsl.passes.serve.layers import Floats, Ints
from hexdsl.passes.serve.problem import Problem, Role

LATENCIES = ("ttft", "tpot", "latency")

TAIL = 90
"""From this percentile on, a rule is held against the upper end of the predicted range."""

TAIL_WAITS = 4.0
"""What the slow end of the requests waits in a queue, over the mean: the 95 % quantile of the waiting times of a queue
with one server, whose tail is exponential, is 3 to 6 times their mean for a load of 0.9 to 0.3."""

FAR = 3.09
"""Score of the 99.9 % quantile, which stands for `max`."""


@dataclass(frozen=True)
class Latency:
    """Latency metrics in seconds of a priced replica at some running requests and requests per second (or arrays)."""

    line: Pipeline
    batch: ArrayLike
    rate: ArrayLike | None
    problem: Problem
    step: ArrayLike | None = None
    """Seconds per output token at `batch`, where they are known already."""
    seats: ArrayLike | None = None
    """Requests that the replica takes on at once; None where none waits for a seat."""

    def value(self, metric: Metric) -> Floats:
        """`p95(ttft)` and the like, in the shape of `batch`.

        Statistics from p90 on take the upper end of the prediction's range and that quantile of the lengths;
        `latency` adds the two parts' quantiles, which is on the safe side.
        """
        if metric.name == "ttft":
            return self.ttft(metric.stat)
        if metric.name == "tpot":
            return self.tpot(metric.stat)
        output = length_at(self.problem.workload.output, metric.stat)
        return self.ttft(metric.stat) + self.tpot(metric.stat) * max(0.0, output - 1)

    def ttft(self, stat: str) -> Floats:
        """Seconds to the first token."""
        load = self.problem.load
        alone, expected, high = self.line.ttft(self.batch, load, self.rate, self._step, TAIL_WAITS)
        prompt = length_at(self.problem.workload.prompt, stat)
        longer = 0.0 if prompt == load.prompt else self.line.first_token(prompt) - alone
        waits = self._seat_wait * (TAIL_WAITS if is_tail(stat) else 1.0)
        return np.maximum(0.0, (high if is_tail(stat) else expected) + longer + waits)

    @cached_property
    def _seat_wait(self) -> Floats:
        if self.rate is None or self.seats is None:
            return np.asarray(0.0)
        running = np.asarray(self.rate) * self.problem.output * self._step
        return seat_wait(running, self.seats, self.rate, self.problem.load)

    def tpot(self, stat: str) -> Floats:
        """Seconds per output token."""
        return self._step * (1 + tpot_band(self.line)) if is_tail(stat) else self._step

    @cached_property
    def _step(self) -> Floats:
        return self.line.tpot(self.batch, self.problem.load) if self.step is None else np.asarray(self.step)


@dataclass(frozen=True)
class DecodeLatency(Latency):
    """The same of a replica that only decodes: first tokens come from elsewhere."""

    def ttft(self, stat: str) -> Floats:
        return np.zeros_like(self._step)

    @cached_property
    def _step(self) -> Floats:
        known = self.step
        return self.line.tpot(self.batch, self.problem.load, prefill=False) if known is None else np.asarray(known)


@dataclass(frozen=True)
class PrefillLatency(Latency):
    """The same of a replica that only computes prompts, one after the other, at `rate` requests per second."""

    def ttft(self, stat: str) -> Floats:
        load, fixed = self.problem.load, self.line.overheads.first_token_s
        alone, prompt = self.line.first_token(load.prompt), length_at(self.problem.workload.prompt, stat)
        assert self.rate is not None
        wait = waiting(self.line.prompt_gap(load.prompt, load.cv_prompt), self.rate, load)
        longer = self.line.first_token(prompt) - alone
        spent = 3 * fixed + TAIL_WAITS * wait if is_tail(stat) else fixed + wait
        return np.asarray(np.maximum(0.0, alone + longer + spent))

    def tpot(self, stat: str) -> Floats:
        return np.zeros_like(np.asarray(self.rate))


LATENCY_OF: dict[Role, type[Latency]] = {"both": Latency, "prefill": PrefillLatency, "decode": DecodeLatency}


@dataclass(frozen=True)
class IdealLine(Pipeline):
    """A pipeline whose first tokens come as if its layers were split for them alone: what no split undercuts."""

    most: Ints | None = None
    """Layers that each stage holds at most."""

    def first_token(self, prompt: ArrayLike) -> Floats:
        """The least seconds of any split: layers go to the stage that is quickest alone, as far as it has room."""
        seconds = np.array([float(s.alone(prompt)) for s in self.stages])
        assert self.most is not None
        left, total = self._layers - len(self.stages), float(seconds.sum())
        for i in np.argsort(seconds, kind="stable"):
            more = min(left, int(self.most[i]) - 1)
            total, left = total + more * float(seconds[i]), left - more
        size = np.asarray(prompt) * self.stages[0].token_bytes
        links = sum(float(transfer(hop, size)) for hop in self.hops)
        return np.asarray(total + links + float(self.stages[-1].head(1.0).total))

    def turn(self, batch: ArrayLike, load: Load, step: ArrayLike) -> Floats:
        """Prompts alone, without the steps that they share."""
        return self.prompt_gap(load.prompt, load.cv_prompt)

    def prompt_gap(self, prompt: ArrayLike, cv: float = 0.0) -> Floats:
        """The least of any split: all stages equally busy with prompts."""
        busy = self._layers / sum(1 / float(s.prefill(prompt, cv)) for s in self.stages)
        size = float(np.asarray(prompt)) * self.stages[0].token_bytes
        return np.asarray(max([busy, *(size / hop.bandwidth for hop in self.hops)]))

    @property
    def _layers(self) -> int:
        return int(np.sum([np.asarray(n) for n in self.layers]))


def is_tail(stat: str) -> bool:
    """Whether a statistic is about the slow end of the requests."""
    return stat == "max" or (stat.startswith("p") and int(stat[1:]) >= TAIL)


def length_at(length: Length, stat: str) -> float:
    """A length at a statistic: its mean, a quantile, or (for `max`) its 99.9 % quantile."""
    if stat in ("", "mean"):
        return length.mean
    return length.quantile(FAR if stat == "max" else NormalDist().inv_cdf(stat_share(stat)))


def stat_share(stat: str) -> float:
    """The share of requests below a percentile: 0.95 for `p95`, 1 for `max`."""
    return 1.0 if stat == "max" else int(stat[1:]) / 100
