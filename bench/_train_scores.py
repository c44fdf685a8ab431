"""Scores of training steps and of a rank's memory on published rows, and of fits that leave part of the rows out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from _scores import Range, Score, score
from _train_fit import fit
from _train_rows import TrainPoint, point_of

from hexdsl.costs.training.coefficients import Coefficients
from hexdsl.costs.training.memory import memory_parts
from hexdsl.costs.training.predict import MEMORY_BAND, train_step

FITTED = "llm-foundry"
"""The source whose rows gave the shipped coefficients."""

LEAVE_OUT: dict[str, Callable[[TrainPoint], str]] = {
    "gpu": lambda p: p.gpu_name.split("_")[0],
    "model": lambda p: p.model,
    "source": lambda p: p.source,
}


def read(paths: Iterable[Path]) -> tuple[list[TrainPoint], int]:
    """Points of JSON files of rows, and how many rows were not understood."""
    rows = [row for path in paths for row in json.loads(path.read_text("utf-8"))]
    points = [p for row in rows if (p := point_of(row))]
    return points, len(rows) - len(points)


def scores(points: list[TrainPoint]) -> list[Score]:
    """Step time by source, GPU and format, then of all rows of a source; then memory."""
    return [*_by(points, _group), *_by([p for p in points if not p.note], _whole), *_memory(points)]


def left_out(points: list[TrainPoint], by: str) -> list[Score]:
    """Each group predicted with coefficients fitted to the ordinary rows of all others."""
    key, ordinary = LEAVE_OUT[by], [p for p in points if not p.note]
    found = []
    for group in sorted({key(p) for p in ordinary}):
        coef = fit([p for p in ordinary if key(p) != group])
        kept = [p for p in ordinary if key(p) == group]
        found.append(_step_score(f"without {group}: {group}", kept, coef))
    return found


def _group(p: TrainPoint) -> str:
    odd = f", {p.note}" if p.note else ""
    return f"{p.source} {p.gpu_name} {p.strategy.precision} ({_role(p)}{odd})"


def _whole(p: TrainPoint) -> str:
    return f"{p.source}, all ordinary rows ({_role(p)})"


def _role(p: TrainPoint) -> str:
    return "fitted" if p.source == FITTED else "held out"


def _by(points: list[TrainPoint], key: Callable[[TrainPoint], str]) -> list[Score]:
    return [_step_score(name, [p for p in points if key(p) == name]) for name in sorted({key(p) for p in points})]


def _step_score(name: str, points: list[TrainPoint], coef: Coefficients | None = None) -> Score:
    return score(name, "step", [p.step_s for p in points], [_step(p, coef) for p in points])


def _step(p: TrainPoint, coef: Coefficients | None) -> Range:
    step = train_step(p.arch, p.gpu, p.strategy, p.seq, p.fabric, coef).step
    return step.value, step.low, step.high


def _memory(points: list[TrainPoint]) -> list[Score]:
    """Peaks of PyTorch's allocator, which does not see context and collective buffers."""
    found = [p for p in points if p.peak_gib]
    names = sorted({f"{p.source} {p.gpu_name} peak memory" for p in found})
    groups = [[p for p in found if name == f"{p.source} {p.gpu_name} peak memory"] for name in names]
    return [
        score(name, "memory", [p.peak_gib or 0.0 for p in group], [_peak(p) for p in group])
        for name, group in zip(names, groups, strict=True)
    ]


def _peak(p: TrainPoint) -> Range:
    parts = memory_parts(p.arch, p.gpu, p.strategy, p.seq)
    value = float(np.sum([part for name, part in parts.items() if name != "reserve"], axis=0).max()) / 2**30
    return value, value * (1 - MEMORY_BAND), value * (1 + MEMORY_BAND)
