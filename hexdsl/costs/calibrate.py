"""Fits the cost model to measured serving runs: bounded least squares on relative error, with its own validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from hexdsl.costs.overheads import Overheads
from hexdsl.costs.profile import ONE_CONFIGURATION
from hexdsl.costs.serving import Load, Pipeline
from hexdsl.costs.stage import GpuCost, StageCost
from hexdsl.ir.spec.profile import Calibration, Errors, Validation

Array = NDArray[np.float64]

FACTORS = ("weights", "compute", "kv", "network")
STEP_TERMS = (*FACTORS, "layer overhead", "request overhead")
START_TERMS = ("start of a prompt", "wait for a step", "queue")

FACTOR_SPREAD, OVERHEAD_SPREAD = 0.3, 1.0
"""How far, relatively, a coefficient is believed to lie from what is shipped before a run says otherwise."""

LEAST_NOISE, FIRST_NOISE = 0.02, 0.1
"""Relative scatter of measured points, at least and before it is known; it weighs the rows against that belief."""

UNDETERMINED = 0.7
"""A term whose uncertainty the rows leave at more than this share is not determined by them."""

ROUNDS = 5
FOLDS = 5
SEED = 0
LARGEST = 20.0


@dataclass(frozen=True, slots=True)
class Runs:
    """Measured points of one replica: requests running together, lengths, seconds; NaN where TTFT is not known.

    `config` names the replica: points of one config are left out together.  `least` bounds each factor from below, so
    that no share of a peak exceeds one.
    """

    config: str
    line: Pipeline
    load: Load
    running: Array
    tpot: Array
    ttft: Array
    least: tuple[float, float, float, float]

    def only(self, rows: NDArray[np.bool_]) -> Runs:
        """Some of the points."""
        load = Load(np.asarray(self.load.prompt)[rows], np.asarray(self.load.output)[rows])
        return replace(self, load=load, running=self.running[rows], tpot=self.tpot[rows], ttft=self.ttft[rows])


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Relative to what is shipped or profiled: factors on times, and overheads, in the order of the terms."""

    step: Array
    start: Array

    def line(self, line: Pipeline) -> Pipeline:
        """The replica with these coefficients."""
        overheads = self.overheads(line.overheads)
        return replace(line, stages=tuple(_scaled(s, self.step, overheads) for s in line.stages))

    def overheads(self, base: Overheads) -> Overheads:
        layer, request = self.step[4:]
        first, wait, burst = self.start
        return Overheads(
            float(layer) * base.layer_s,
            float(request) * base.request_s,
            float(first) * base.first_token_s,
            float(wait) * base.wait_steps,
            float(burst) * base.burst,
            "profiled",
        )


UNCHANGED = Coefficients(np.ones(len(STEP_TERMS)), np.ones(len(START_TERMS)))


def _scaled(stage: StageCost, step: Array, overheads: Overheads) -> StageCost:
    weights, compute, kv, network = map(float, step[:4])
    reduce = stage.reduce
    slower = replace(reduce, alpha_s=reduce.alpha_s * network, s_per_byte=reduce.s_per_byte * network)
    gpus = tuple(_slower(g, weights, compute, kv) for g in stage.gpus)
    return replace(stage, gpus=gpus, reduce=slower, overheads=overheads)


def _slower(gpu: GpuCost, weights: float, compute: float, kv: float) -> GpuCost:
    return replace(
        gpu,
        read_s=gpu.read_s * weights,
        expert_read_s=gpu.expert_read_s * weights,
        head_read_s=gpu.head_read_s * weights,
        token_s=gpu.token_s * compute,
        kv_token_s=gpu.kv_token_s * compute,
        square_s=gpu.square_s * compute,
        head_token_s=gpu.head_token_s * compute,
        kv_read_s=gpu.kv_read_s * kv,
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted coefficients, the terms that the rows could not determine, and those that ended at a limit."""

    coefficients: Coefficients
    undetermined: tuple[str, ...]
    limited: tuple[str, ...]


def fit(runs: Sequence[Runs]) -> Fit:
    """Coefficients of the step from TPOT, then those of a prompt's start from TTFT."""
    least = np.array([*np.max([r.least for r in runs], axis=0), 0.0, 0.0])
    spread = np.array([FACTOR_SPREAD] * 4 + [OVERHEAD_SPREAD] * 2)
    measured = np.concatenate([r.tpot for r in runs])
    step, open_steps, tight_steps = _solve(lambda x: _tpot(runs, replace(UNCHANGED, step=x)), measured, least, spread)
    known = replace(UNCHANGED, step=step)
    ttft = np.concatenate([r.ttft for r in runs])
    there = np.isfinite(ttft)
    start, open_starts, tight_starts = UNCHANGED.start, np.ones(3, dtype=bool), np.zeros(3, dtype=bool)
    if there.any():
        start, open_starts, tight_starts = _solve(
            lambda x: _ttft(runs, replace(known, start=x))[there], ttft[there], np.zeros(3), np.full(3, OVERHEAD_SPREAD)
        )
    names = (*STEP_TERMS, *START_TERMS)
    undetermined, limited = (
        tuple(n for n, there in zip(names, [*a, *b], strict=True) if there)
        for a, b in ((open_steps, open_starts), (tight_steps, tight_starts))
    )
    return Fit(replace(known, start=start), undetermined, limited)


def _tpot(runs: Iterable[Runs], found: Coefficients) -> Array:
    return np.concatenate([found.line(r.line).tpot(r.running, r.load) for r in runs])


def _ttft(runs: Iterable[Runs], found: Coefficients) -> Array:
    return np.concatenate([found.line(r.line).ttft(r.running, r.load)[1] for r in runs])


def _solve(
    model: Callable[[Array], Array], measured: Array, least: Array, spread: Array
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Coefficients near one, which of them the rows left open, and which ended at a limit.

    Each round linearises the model, weighs rows by 1/sqrt(error) so that no outlier rules, and adds one row for each
    coefficient that holds it at one as strongly as `spread` says.  The scatter is 1.48 median errors, as of a normal
    distribution.
    """
    x, noise = np.maximum(np.ones_like(least), least), FIRST_NOISE
    for _ in range(ROUNDS):
        value, slopes = model(x), _slopes(model, x)
        size = np.abs(value / measured - 1)
        weight = 1 / (np.sqrt(np.maximum(size, noise) * noise) * measured)
        rows = np.vstack([slopes * weight[:, None], np.diag(1 / spread)])
        wanted = np.concatenate([(measured - value + slopes @ x) * weight, 1 / spread])
        found = lsq_linear(rows, wanted, (least, np.full_like(least, LARGEST)))
        x = np.where(found.x < 1e-9, 0.0, found.x)
        noise = max(LEAST_NOISE, 1.48 * float(np.median(np.abs(model(x) / measured - 1))))
    left = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))) / spread
    return np.asarray(x), left > UNDETERMINED, np.asarray(found.active_mask != 0)


def _slopes(model: Callable[[Array], Array], x: Array) -> Array:
    """Derivatives by each coefficient, shape (rows, coefficients)."""
    step = 1e-3
    columns = []
    for i in range(len(x)):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        columns.append((model(up) - model(down)) / (2 * step))
    return np.stack(columns, axis=1)


def calibrate(runs: Sequence[Runs], source: str) -> Calibration:
    """The calibration that these runs come to, judged on rows that were left out of the fit."""
    found = fit(runs)
    coefficients, base = found.coefficients, runs[0].line.overheads
    over = coefficients.overheads(base)
    return Calibration(
        source=source,
        rows=sum(len(r.tpot) for r in runs),
        factors={name: _rounded(f) for name, f in zip(FACTORS, coefficients.step[:4], strict=True)},
        layer_s=_rounded(over.layer_s),
        request_s=_rounded(over.request_s),
        first_token_s=_rounded(over.first_token_s),
        wait_steps=_rounded(over.wait_steps),
        burst=_rounded(over.burst),
        undetermined=found.undetermined,
        limited=found.limited,
        validation=tuple(_validations(runs)),
    )


def _validations(runs: Sequence[Runs]) -> Iterator[Validation]:
    total = sum(len(r.tpot) for r in runs)
    folds = np.random.default_rng(SEED).permutation(total) % min(FOLDS, total)
    if total > 1:
        yield from _validate(runs, folds, f"a {int(folds.max()) + 1}th of the rows")
    configs = sorted({r.config for r in runs})
    if len(configs) > 1:
        groups = np.concatenate([np.full(len(r.tpot), configs.index(r.config)) for r in runs])
        yield from _validate(runs, groups, ONE_CONFIGURATION)


def _validate(runs: Sequence[Runs], part: NDArray[np.int64], left_out: str) -> Iterator[Validation]:
    """Each part predicted by a fit to the others."""
    after = {metric: np.full(len(part), np.nan) for metric in ("tpot", "ttft")}
    for i in range(int(part.max()) + 1):
        found = fit(_split(runs, part != i)).coefficients
        for metric, model in (("tpot", _tpot), ("ttft", _ttft)):
            after[metric][part == i] = model(_split(runs, part == i), found)
    for metric, model in (("tpot", _tpot), ("ttft", _ttft)):
        measured = np.concatenate([getattr(r, metric) for r in runs])
        if np.isfinite(measured).any():
            before = errors(model(runs, UNCHANGED), measured)
            yield Validation(metric=metric, left_out=left_out, before=before, after=errors(after[metric], measured))


def _split(runs: Sequence[Runs], chosen: NDArray[np.bool_]) -> list[Runs]:
    ends = np.cumsum([len(r.tpot) for r in runs])
    parts = np.split(chosen, ends[:-1])
    return [r.only(part) for r, part in zip(runs, parts, strict=True) if part.any()]


def errors(predicted: Array, measured: Array) -> Errors:
    """Errors in percent of the rows that have a measurement."""
    there = np.isfinite(measured)
    signed = 100 * (predicted[there] / measured[there] - 1)
    size = np.abs(signed)
    figures = (size.mean(), np.median(size), np.median(signed), 100 * (size <= 20).mean())
    mape, median, bias, within = (round(float(f), 2) for f in figures)
    return Errors(rows=int(there.sum()), mape=mape, median=median, bias=bias, within_20=within)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
