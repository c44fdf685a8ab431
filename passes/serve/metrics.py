"""What a replica's latency metrics come to, with the statistic that a rule names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.network import transfer
from hexdsl.costs.predict import TPOT_BAND
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.spec.rule import Metric
from hexdsl.ir.spec.workload import Length
from hexdsl.passes.serve.layers import Floats, Ints
from hexdsl.passes.serve.problem import Problem

LATENCIES = ("ttft", "tpot", "latency")

TAIL = 90
"""From this percentile on, a rule is held against the upper end of the predicted range."""

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
        _, expected, high = self.line.ttft(self.batch, load, self.rate, self._step)
        prompt = length_at(self.problem.workload.prompt, stat)
        longer = 0.0 if prompt == load.prompt else self.line.first_token(prompt) - self.line.first_token(load.prompt)
        return np.maximum(0.0, (high if is_tail(stat) else expected) + longer)

    def tpot(self, stat: str) -> Floats:
        """Seconds per output token."""
        return self._step * (1 + TPOT_BAND[self.line.provenance]) if is_tail(stat) else self._step

    @cached_property
    def _step(self) -> Floats:
        return self.line.tpot(self.batch, self.problem.load) if self.step is None else np.asarray(self.step)


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

    def prompt_gap(self, prompt: ArrayLike) -> Floats:
        """The least of any split: all stages equally busy with prompts."""
        busy = self._layers / sum(1 / float(s.prefill(prompt)) for s in self.stages)
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
