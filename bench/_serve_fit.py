"""Refits of the serving coefficients to part of the rows, judged on the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from _scores import Score, score
from _serve_rows import ServePoint

from hexdsl.costs.calibrate import UNCHANGED, Coefficients, Runs, fit
from hexdsl.costs.efficiency import efficiency_of
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.predict import predict_tpot, predict_ttft
from hexdsl.costs.serving import Load, Pipeline

PRIOR = Overheads(layer_s=40e-6, request_s=20e-6, first_token_s=0.03, wait_steps=0.5, burst=0.05)
"""What is believed before any row is seen: ten kernels a layer of 4 us each (the start-up time of the measured matrix
products); 20 us of sampling and scheduling a request; half a step of waiting; a first wave of prompts, (batch + 1) / 2
ahead of one on average, in the first of ten rounds."""

OPERATOR_READS: Mapping[str, float] = {"h100": 0.843, "h200": 0.793}
"""Share of the bandwidth in matrix products of 1 and 16 rows (kernel_points.json); what is shipped for these two kinds
was fitted to serving rows."""

LEAST = (0.8, 0.5, 0.8, 0.1)
"""Factors below which a share of a peak would pass one."""

LEAVE_OUT: Mapping[str, Callable[[ServePoint], str]] = {
    "model": lambda p: p.model,
    "GPU": lambda p: p.gpu,
    "engine": lambda p: p.engine,
}


def line_before(p: ServePoint) -> Pipeline:
    """The replica, priced from operator tables and priors alone."""
    replica = replace(p.replica, gpu=_gpu_before(p.replica.gpu))
    line = replica.line()
    return replace(line, stages=tuple(replace(s, overheads=PRIOR) for s in line.stages))


def _gpu_before(gpu: Gpu) -> Gpu:
    shipped = efficiency_of(gpu.kind)
    return replace(gpu, profile=replace(shipped, memory=OPERATOR_READS.get(shipped.kind, shipped.memory)))


def runs_of(points: Iterable[ServePoint]) -> list[Runs]:
    """The points by replica.  Where requests wait outside the engine, only TPOT counts."""
    groups: dict[tuple[str, int, int], list[ServePoint]] = defaultdict(list)
    for p in points:
        groups[p.group, p.replica.tp, p.replica.pp].append(p)
    return [_runs(f"{group} tp{tp} pp{pp}", found) for (group, tp, pp), found in sorted(groups.items())]


def _runs(config: str, points: Sequence[ServePoint]) -> Runs:
    columns = [(p.load.prompt, p.load.output, p.running, p.tpot_s, np.nan if p.waits else p.ttft_s) for p in points]
    prompt, output, running, tpot, ttft = np.array(columns, dtype=np.float64).T
    return Runs(config, line_before(points[0]), Load(prompt, output), running, tpot, ttft, LEAST)


def table(points: Sequence[ServePoint]) -> Iterator[Score]:
    """Nothing fitted, all fitted, then each model, GPU and engine predicted by a fit to the others; odd rows apart.

    The first rows have what is shipped for GPUs without measurements of their own: shares for all, overheads as fitted.
    """
    rows, odd = [p for p in points if not p.odd], [p for p in points if p.odd]
    whole = fit(runs_of(rows)).coefficients
    yield from _scores("none, GPUs as if unknown | all", rows, [_unknown(p) for p in rows])
    yield from _judged("none, priors and operator tables | all", rows, UNCHANGED)
    yield from _judged("all | all (in-sample)", rows, whole)
    for name, key in LEAVE_OUT.items():
        yield from _left_out(rows, name, key)
    if odd:
        yield from _judged(f"all but {odd[0].model} | {odd[0].model}", odd, whole)


def _left_out(rows: Sequence[ServePoint], name: str, key: Callable[[ServePoint], str]) -> Iterator[Score]:
    kinds = sorted({key(p) for p in rows})
    if len(kinds) < 2:
        return
    found = {k: fit(runs_of(p for p in rows if key(p) != k)).coefficients for k in kinds}
    for kind in kinds:
        yield from _judged(f"all but {kind} | {kind}", [p for p in rows if key(p) == kind], found[kind])
    yield from _scores(f"each {name} left out in turn | that {name}", rows, [_line(p, found[key(p)]) for p in rows])


def _judged(label: str, points: Sequence[ServePoint], found: Coefficients) -> Iterator[Score]:
    yield from _scores(label, points, [_line(p, found) for p in points])


def _line(p: ServePoint, found: Coefficients) -> Pipeline:
    """The replica with fitted coefficients, but the ranges of shipped ones, not those of a user's own fit."""
    line = found.line(line_before(p))
    over = replace(line.overheads, provenance="measured")
    return replace(line, stages=tuple(replace(s, overheads=over) for s in line.stages))


def _unknown(p: ServePoint) -> Pipeline:
    return replace(p.replica, gpu=replace(p.replica.gpu, name="unknown", like="")).line()


def _scores(label: str, points: Sequence[ServePoint], lines: Sequence[Pipeline]) -> Iterator[Score]:
    for metric, predict in (("tpot", predict_tpot), ("ttft", predict_ttft)):
        guesses = [predict(line, p.running, p.load) for line, p in zip(lines, points, strict=True)]
        measured = [getattr(p, f"{metric}_s") for p in points]
        yield score(label, metric, measured, [(g.value, g.low, g.high) for g in guesses])
