"""`hexc calibrate`: fits the cost model to measured serving runs."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from hexdsl.commands.base import Output, as_json, save_file
from hexdsl.commands.catalog import read_profile_file
from hexdsl.commands.points import Names, Point, engine_from, names_of, points_in
from hexdsl.costs.calibrate import Runs, calibrate
from hexdsl.costs.efficiency import Efficiency, efficiency_of
from hexdsl.costs.memory import Engine
from hexdsl.costs.point import Replica, requests_in
from hexdsl.costs.serving import Load
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.spec.profile import Profile

LEAST_NETWORK = 0.1
"""Collectives are not believed to be faster than a tenth of what the tables say."""

FEWEST = 4
"""Rows below which a fit would only repeat them."""


def calibrate_command(args: argparse.Namespace) -> Output:
    """Fits, prints errors before and after, and writes the profile with what was fitted."""
    from hexdsl.report.calibration import calibration_text

    base = uncalibrated(read_profile_file(args.profile)) if args.profile else None
    points, others = _of_one_gpu(args, names_of(args, base))
    found = calibrate(tuple(_runs(points, engine_from(args))), Path(args.rows).name)
    start = base or {"format_version": "1.0", "gpu": points[0].gpu, "source": "hexc calibrate"}
    profile = Profile.model_validate({**dict(start), "calibration": found})
    text = as_json(profile.model_dump(mode="json", exclude_defaults=True)) + "\n"
    talk = [f"{others} rows of other GPUs left out"] if others else []
    if args.out:
        save_file(Path(args.out), text)
        talk.append(f"wrote {args.out}")
    return Output(data=text if args.json else calibration_text(found, args.width), talk="\n".join(talk))


def _of_one_gpu(args: argparse.Namespace, names: Names) -> tuple[list[Point], int]:
    """The measured points of the GPU that is meant, and how many there are of others.  Raises UsageError."""
    wanted = names.catalog.gpu(args.gpu).name if args.gpu else None
    points = points_in(args.rows, names, ("tpot_ms",))
    kinds = sorted({p.gpu for p in points})
    if wanted is None and len(kinds) > 1:
        message = f"`{args.rows}` has rows of {' and '.join(kinds)}; a profile is of one GPU"
        raise UsageError([Diagnostic("E142", message, (), f"say which: `--gpu {kinds[0]}`")])
    chosen = [p for p in points if wanted in (None, p.gpu)]
    lacking = next((p for p in chosen if "tpot" not in p.measured), None)
    if lacking is not None:
        raise UsageError([Diagnostic("E142", f"{lacking.label}: `tpot_ms` is empty", (), "leave out the row")])
    if len(chosen) < FEWEST:
        message = f"`{args.rows}` has {len(chosen)} rows of {wanted or kinds[0]}, too few to fit"
        raise UsageError([Diagnostic("E142", message, (), f"give at least {FEWEST}, of several batches and lengths")])
    return chosen, len(points) - len(chosen)


def _runs(points: Iterable[Point], engine: Engine) -> Iterator[Runs]:
    """The points by replica, in the order of their names."""
    groups: dict[tuple[str, Replica], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.config, point.replica].append(point)
    for (config, replica), found in sorted(groups.items(), key=lambda g: g[0][0]):
        yield _run(config, replica, found, engine)


def _run(config: str, replica: Replica, points: Sequence[Point], engine: Engine) -> Runs:
    prompt, output, batch = np.array([(p.load.prompt, p.load.output, p.batch) for p in points], dtype=float).T
    tokens = prompt + output / 2
    room = np.array([min(requests_in(replica, part, t, engine) for part in replica.slices) for t in tokens])
    if (room < 1).any():
        at = points[int(np.argmin(room))]
        help_ = "correct its formats (`precision`, `kv`), tp or GPU, or give `--utilization`"
        raise UsageError([Diagnostic("E142", f"{at.label}: the model does not fit on this GPU", (), help_)])
    waits = batch > room  # their time to the first token is that of the queue before the engine
    ttft = np.array([p.measured.get("ttft", np.nan) for p in points])
    tpot = np.array([p.measured["tpot"] for p in points])
    running = np.minimum(batch, room)
    load, ttft = Load(prompt, output), np.where(waits, np.nan, ttft)
    return Runs(config, replica.line(), load, running, tpot, ttft, _least(replica))


def _least(replica: Replica) -> tuple[float, float, float, float]:
    """Factors at which the shares of the peaks come to one."""
    shares: Efficiency = replica.gpu.profile or efficiency_of(replica.gpu.kind)
    return shares.memory, shares.gemm_at(replica.formats.activations)[0], shares.kv, LEAST_NETWORK


def uncalibrated(profile: Profile) -> Profile | None:
    """The measured part of a profile; None where there is none."""
    try:
        return profile.with_(calibration=None)
    except ValidationError:
        return None
