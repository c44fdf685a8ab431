"""`hexc explain`, `hexc diff`, `hexc graph`, `hexc report`: ways to look at a plan."""

from __future__ import annotations

import argparse
import json
import re
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from hexdsl.commands.base import Output, as_json, save_file, spec_of
from hexdsl.commands.plan import planned
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan
from hexdsl.ir.values import suggestion

_CODE = re.compile(r"^[SEPW][0-9]{3}$")


def plan_of(args: argparse.Namespace, subject: str) -> Plan:
    """The plan in a bundle or a plan.json, or that of a spec.  Raises SpecError."""
    path = Path(subject)
    if path.is_dir():
        return read_plan(path / "plan.json")
    if path.suffix == ".json" and not args.from_json:
        return read_plan(path)
    return planned(spec_of(args, subject), args)


def read_plan(path: Path) -> Plan:
    """The plan of a plan.json.  Raises UsageError (P013) where it is none."""
    try:
        plan = Plan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError([Diagnostic("P013", f"there is no plan `{path}`")]) from None
    except ValidationError as error:
        detail = error.errors()[0]
        message = f"`{path}` is not a plan of this version: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
        raise UsageError([Diagnostic("P013", message, (), "plan the spec again")]) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError([Diagnostic("P013", f"`{path}` cannot be read as a plan: {error}")]) from None
    if plan.format_version != Plan.model_fields["format_version"].default:
        message = f"`{path}` is a plan of format {plan.format_version}, which this version does not read"
        raise UsageError([Diagnostic("P013", message, (), "plan the spec again")])
    return plan


def explain_command(args: argparse.Namespace) -> Output:
    """Explains a message's code, or what a plan decided and why."""
    if _CODE.match(args.subject):
        page = code_page(args.subject)
        return Output(
            data=as_json({"format_version": "1.0", "code": args.subject, "page": page}) if args.json else page
        )
    from hexdsl.report.explain import explain_plan

    plan = plan_of(args, args.subject)
    try:
        text = explain_plan(plan, args.what)
    except ValueError as error:
        raise UsageError([Diagnostic("E020", str(error))]) from None
    return Output(data=as_json({"format_version": "1.0", "explanation": text}) if args.json else text)


def code_page(code: str) -> str:
    """The page about a code.  Raises UsageError for a code that does not exist."""
    folder = files("hexdsl.errors")
    page = folder.joinpath(f"{code}.md")
    if not page.is_file():
        known = [p.name.removesuffix(".md") for p in folder.iterdir() if p.name.endswith(".md")]
        raise UsageError([Diagnostic("E020", f"there is no code `{code}`", (), suggestion(code, known))])
    return page.read_text(encoding="utf-8")


def diff_command(args: argparse.Namespace) -> Output:
    """Compares two plans."""
    from hexdsl.report.diff import plan_diff

    found = plan_diff(plan_of(args, args.old), plan_of(args, args.new))
    return Output(data=as_json(found.json) if args.json else found.text, code=0 if found.same else 1)


def graph_command(args: argparse.Namespace) -> Output:
    """The cluster and who holds what, as a graph."""
    from hexdsl.report.graph import graph_dot, graph_text

    plan = plan_of(args, args.subject)
    text = graph_text(plan) if args.text else graph_dot(plan)
    return Output(data=as_json({"format_version": "1.0", "graph": text}) if args.json else text)


def report_command(args: argparse.Namespace) -> Output:
    """A self-contained HTML page about a plan."""
    from hexdsl.report.html import plan_html

    page = plan_html(plan_of(args, args.subject))
    if args.out is None:
        return Output(data=page)
    save_file(Path(args.out), page)
    return Output(
        data=as_json({"format_version": "1.0", "report": args.out}) if args.json else "", talk=f"wrote {args.out}"
    )
