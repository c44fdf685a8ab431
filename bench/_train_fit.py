"""Fits the training coefficients to rows: most probable values under the priors of the shipped table.

    cd bench && python _train_fit.py ROWS.json

prints what it finds on the llm-foundry rows, from which `hexdsl/costs/training/coefficients.json` was written.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from _train_rows import TrainPoint, point_of
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hexdsl.costs.training.coefficients import Coefficients, default_coefficients
from hexdsl.costs.training.step import step_seconds

PRIOR = {
    "A100 16-bit": (0.85, 0.1),
    "H100 16-bit": (0.85, 0.1),
    "H100 fp8": (1.0, 0.08),
    "flash1 A100": (0.9, 0.3),
    "flash1 H100": (0.5, 0.3),
    "eager": (1.0, 0.15),
    "contention": (0.15, 0.08),
}
"""Mean and width; the sources are in the table of coefficients."""

NOISE = 0.05
"""Scatter of a row about the model; beyond it a row counts linearly, not squared."""


def coefficients(found: NDArray[np.float64]) -> Coefficients:
    a100, h100, fp8, old_a100, old_h100, eager, contention = (float(x) for x in found)
    base, hopper = default_coefficients(), {"bf16": h100, "fp8": fp8}
    return replace(
        base,
        sustained={"a100": {"bf16": a100}, "h100": hopper, "h200": hopper},
        attention={**base.attention, "flash1": {"a100": old_a100, "h100": old_h100, "h200": old_h100}},
        eager=eager,
        contention=contention,
    )


def fit(points: Sequence[TrainPoint]) -> Coefficients:
    """Robust least squares on log step time; a source with many rows counts for less than its number."""
    mean, width = np.array(list(PRIOR.values())).T
    rows = Counter(p.source for p in points)
    weight = np.clip([np.sqrt(10 / rows[p.source]) for p in points], 0.35, 1.5)

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        coef = coefficients(x)
        errors = [
            np.log(float(step_seconds(p.arch, p.gpu, p.strategy, p.seq, p.fabric, coef)) / p.step_s) for p in points
        ]
        return np.concatenate([weight * errors, NOISE * (x - mean) / width])

    low = np.full_like(mean, 0.02)
    solved = least_squares(
        residuals, mean, bounds=(low, 3.0), loss="soft_l1", f_scale=NOISE, diff_step=1e-3, max_nfev=8
    )
    return coefficients(solved.x)


def main() -> int:
    rows = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    points = [p for row in rows if (p := point_of(row)) and p.source == "llm-foundry"]
    found = fit(points)
    print(json.dumps({n: getattr(found, n) for n in ("sustained", "attention", "eager", "contention")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
