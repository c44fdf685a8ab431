"""`hexc estimate`: what one operating point, or each row of a table, comes to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hexdsl.commands.base import Output, as_json
from hexdsl.commands.points import Point, engine_from, names_of, point_alone, points_in
from hexdsl.costs.estimate import Estimate
from hexdsl.costs.memory import Engine
from hexdsl.costs.point import Estimated, estimate
from hexdsl.ir.diagnostic import Diagnostic, UsageError

Priced = tuple[Point, Estimated]


def estimate_command(args: argparse.Namespace) -> Output:
    """Prices points and prints them."""
    from hexdsl.report.estimate import point_text, points_text

    names = names_of(args)
    points = points_in(args.rows, names) if args.rows else (point_alone(names),)
    priced = [(p, _priced(p, engine_from(args))) for p in points]
    if args.json:
        return Output(data=as_json({"format_version": "1.0", "points": [to_json(*p) for p in priced]}))
    text = points_text(priced, args.width) if args.rows else point_text(*priced[0], args.width)
    return Output(data=text, talk=_warnings(priced))


def _priced(point: Point, engine: Engine) -> Estimated:
    try:
        return estimate(point.replica, point.load, point.batch, engine)
    except ValueError as error:
        raise UsageError([Diagnostic("P002", f"{point.label}: {error}")]) from None


def _warnings(priced: Sequence[Priced]) -> str:
    """What a reader must know before believing a line."""
    lines = []
    for point, found in priced:
        if not found.fits:
            lines.append(f"{point.label}: does not fit: not one request's KV cache has room beside the weights")
        elif found.running < point.batch:
            most, batch = int(found.running), int(point.batch)
            lines.append(f"{point.label}: the KV cache holds {most} of {batch} requests; the others wait")
    return "\n".join(lines)


def to_json(point: Point, found: Estimated) -> dict[str, Any]:
    """A priced point as JSON: seconds, bytes, shares."""
    replica = point.replica
    return {
        "point": point.label,
        "config": point.config,
        "gpu": point.gpu,
        "formats": asdict(replica.formats),
        "tp": replica.tp,
        "pp": replica.pp,
        "batch": point.batch,
        "prompt_tokens": point.load.prompt,
        "output_tokens": point.load.output,
        "fits": found.fits,
        "running": found.running,
        "ttft_s": _range(found.ttft),
        "tpot_s": _range(found.tpot),
        "requests_per_s": _range(found.requests_per_s),
        "output_tokens_per_s_per_gpu": found.tokens_per_s_gpu,
        "share_of_roofline": found.roofline,
        "operations": [
            {"name": o.name, "seconds": o.seconds, "share_of_roofline": o.roofline, "provenance": o.provenance}
            for o in found.operations
        ],
        "memory_bytes": asdict(found.memory),
        "measured_s": dict(point.measured),
    }


def _range(found: Estimate) -> dict[str, Any]:
    terms = [{"name": t.name, "value": t.value, "provenance": t.provenance} for t in found.terms]
    return {"value": found.value, "low": found.low, "high": found.high, "terms": terms}
