"""Figures of a result: percentiles, goodput, utilisation, cost; and their confidence intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from hexdsl.sim.request import Status
from hexdsl.sim.result import Floats, ReplicaResult, Result

LEVELS = (50, 90, 95, 99)

STUDENT_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 97.5 % for 1 to 30 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution; NaN where it is empty."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        if len(values) == 0:
            return cls(*[float("nan")] * 5)
        return cls(float(values.mean()), *(float(x) for x in np.percentile(values, LEVELS)))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request must keep to count as good, in seconds; None is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None

    def kept(self, result: Result) -> NDArray[np.bool_]:
        """Which requests finished within all limits."""
        good = result.done
        for name, limit in asdict(self).items():
            if limit is not None:
                good = good & (getattr(result, name) <= limit)
        return good


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run, or of some of its requests.  Rates are over the time from first arrival to last end.

    `tpot` leaves out answers of one token.  `utilisation` is that of each replica's busiest stage, averaged.
    """

    requests: int
    finished: int
    rejected: int
    failed: int
    cancelled: int
    ttft_s: Spread
    tpot_s: Spread
    latency_s: Spread
    span_s: float
    requests_per_s: float
    output_tokens_per_s: float
    goodput_per_s: float
    good_share: float
    preemptions: int
    retries: int
    cached_share: float
    utilisation: float
    kv_mean: float
    kv_peak: float
    cost_usd: float
    usd_per_million_tokens: float

    def numbers(self) -> dict[str, float]:
        """All figures by name, those of a distribution as in `ttft_s.p99`."""
        flat: dict[str, float] = {}
        for name, value in asdict(self).items():
            flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: float(value)}
        return flat


def summarise(result: Result, limits: Limits = NO_LIMITS, rows: NDArray[np.bool_] | None = None) -> Summary:
    """Sums a run up; `rows` picks requests, such as those of a class."""
    picked = np.ones(len(result.id), dtype=bool) if rows is None else rows
    done = result.done & picked
    span, tokens = max(result.span_s, 1e-12), int(result.generated[done].sum())
    good = int((limits.kept(result) & picked).sum())
    cost = sum(r.usd_per_h for r in result.replicas) * result.span_s / 3600
    count, prompts = int(picked.sum()), int(result.prompt[picked].sum())
    return Summary(
        requests=count,
        **{s.name: int((result.status[picked] == s).sum()) for s in Status if s is not Status.unfinished},
        ttft_s=Spread.of(result.ttft_s[done]),
        tpot_s=Spread.of(result.tpot_s[done & (result.generated > 1)]),
        latency_s=Spread.of(result.latency_s[done]),
        span_s=result.span_s,
        requests_per_s=int(done.sum()) / span,
        output_tokens_per_s=tokens / span,
        goodput_per_s=good / span,
        good_share=good / count if count else float("nan"),
        preemptions=int(result.preemptions[picked].sum()),
        retries=int(result.retries[picked].sum()),
        cached_share=int(result.cached[picked].sum()) / prompts if prompts else float("nan"),
        utilisation=float(np.mean([max(r.utilisation) for r in result.replicas])),
        kv_mean=float(np.mean([r.kv_mean for r in result.replicas])),
        kv_peak=max(r.kv_peak for r in result.replicas),
        cost_usd=cost,
        usd_per_million_tokens=cost / tokens * 1e6 if tokens else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % confidence interval; the interval is the mean itself for one seed."""

    mean: float
    low: float
    high: float
    seeds: int


def interval(values: Iterable[float]) -> Interval:
    """Student's interval of the mean; values that are NaN are left out."""
    x = np.array([v for v in values if v == v])
    if len(x) < 2:
        mean = float(x[0]) if len(x) else float("nan")
        return Interval(mean, mean, mean, len(x))
    t = STUDENT_975[len(x) - 2] if len(x) <= len(STUDENT_975) + 1 else 1.96
    half = t * float(x.std(ddof=1)) / len(x) ** 0.5
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))


def over_seeds(run: Callable[[int], Summary], seeds: Iterable[int]) -> Mapping[str, Interval]:
    """Runs once a seed; every figure of `Summary.numbers` with its interval."""
    runs = [run(seed).numbers() for seed in seeds]
    if not runs:
        raise ValueError("at least one seed is needed")
    return {name: interval(numbers[name] for numbers in runs) for name in runs[0]}


@dataclass(frozen=True, slots=True)
class Series:
    """Averages over equal slices of the time, for plots.  One row a replica, one column a slice.

    `busy` is the share of a slice in which the busiest member of the pipeline was at work.
    """

    edges_s: Floats
    waiting: Floats
    running: Floats
    kv: Floats
    busy: Floats


def series(result: Result, slices: int = 120) -> Series:
    """Time-weighted averages of each replica's queue, running sequences, share of the KV cache in use, and work."""
    edges = np.linspace(result.start_s, result.end_s, slices + 1)
    columns = {
        name: np.array([_averages(r.time_s, np.asarray(getattr(r, name), float), edges) for r in result.replicas])
        for name in ("waiting", "running", "kv")
    }
    return Series(edges, **columns, busy=np.array([_busy(r, edges) for r in result.replicas]))


def _busy(replica: ReplicaResult, edges: Floats) -> Floats:
    """Work is counted when a step is over: it is spread evenly from the sample before which nothing ran."""
    times, done = replica.time_s, replica.busy_s
    if len(times) == 0:
        return np.zeros(len(edges) - 1)
    idle_until = np.concatenate([[True], replica.running[:-1] == 0])
    known = idle_until | np.concatenate([[True], np.diff(done) > 0])
    at = np.interp(edges, times[known], done[known])
    return np.asarray(np.diff(at) / np.maximum(np.diff(edges), 1e-12))


def _averages(times: Floats, values: Floats, edges: Floats) -> Floats:
    """Means of a step function, which is 0 before its first sample, between neighbouring edges."""
    if len(times) == 0:
        return np.zeros(len(edges) - 1)
    area = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(times))])
    index = np.searchsorted(times, edges, side="right") - 1
    inside = np.maximum(index, 0)
    total = np.where(index >= 0, area[inside] + values[inside] * (edges - times[inside]), 0.0)
    return np.asarray(np.diff(total) / np.maximum(np.diff(edges), 1e-12))
