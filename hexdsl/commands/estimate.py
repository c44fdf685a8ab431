"""`hexc estimate`: what one operating point, or each row of a table, comes to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hexdsl.commands.base import Output, as_json
from hexdsl.commands.catalog import read_profile_file
from hexdsl.commands.points import Point, engine_from, names_of, point_alone, points_in, rounded
from hexdsl.costs.estimate import Estimate
from hexdsl.costs.memory import Engine
from hexdsl.costs.point import Estimated, estimate
from hexdsl.ir.diagnostic import Diagnostic, UsageError

if TYPE_CHECKING:
    from hexdsl.report.estimate import Row

Priced = tuple[Point, Estimated]


def estimate_command(args: argparse.Namespace) -> Output:
    """Prices points and prints them."""
    from hexdsl.report.estimate import point_text, points_text

    names = names_of(args, read_profile_file(args.profile) if args.profile else None)
    if args.train:
        from hexdsl.commands.training import train_command

        return train_command(args, names)
    points = points_in(args.rows, names) if args.rows else (point_alone(names),)
    priced = [(p, _priced(p, engine_from(args))) for p in points]
    if args.json:
        return Output(data=as_json(rounded({"format_version": "1.0", "points": [to_json(*p) for p in priced]})))
    views = [_view(*p) for p in priced]
    text = points_text(views, args.width) if args.rows else point_text(*views[0], args.width)
    return Output(data=text, talk=_warnings(priced))


def _view(point: Point, found: Estimated) -> Row:
    return f"{point.config} on {point.gpu}", point.replica, point.load, point.batch, found


def _priced(point: Point, engine: Engine) -> Estimated:
    try:
        return estimate(point.replica, point.load, point.batch, engine)
    except ValueError as error:
        raise UsageError([Diagnostic("P002", f"{point.label}: {error}")]) from None


def _warnings(priced: Sequence[Priced]) -> str:
    """What a reader must know before believing the figures."""
    large = [p.label for p, found in priced if not found.fits]
    waiting = [p.label for p, found in priced if found.fits and found.running < p.batch]
    lines = [_about(large, "the KV cache of not one request has room beside the weights")]
    lines.append(_about(waiting, "the KV cache holds a part of the requests; the others wait, and are not counted"))
    return "\n".join(line for line in lines if line)


def _about(labels: Sequence[str], text: str) -> str:
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f"{labels[0]}{more}: {text}" if labels else ""


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
