"""`hexc explain`, `hexc diff`, `hexc graph`, `hexc report`: ways to look at a plan."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from hexdsl.commands.base import Output, as_json, save_file, spec_of
from hexdsl.commands.plan import planned
from hexdsl.commands.saved import read_bundled, read_plan
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan

_CODE = re.compile(r"[A-Za-z][0-9]{1,4}")


def plan_of(args: argparse.Namespace, subject: str) -> Plan:
    """The plan in a bundle or a plan.json, or that of a spec.  Raises SpecError."""
    path = Path(subject)
    if path.is_dir():
        return read_bundled(path)
    if path.suffix == ".json" and not args.from_json:
        return read_plan(path)
    return planned(spec_of(args, subject), args)


def explain_command(args: argparse.Namespace) -> Output:
    """Explains a message's code, or what a plan decided and why."""
    if _CODE.fullmatch(args.subject) and not Path(args.subject).exists():
        code = args.subject.upper()
        page = code_page(code)
        return Output(data=as_json({"format_version": "1.0", "code": code, "page": page}) if args.json else page)
    from hexdsl.passes.serve.answers import answers_to
    from hexdsl.report.explain import explain_plan

    plan = plan_of(args, args.subject)
    answers = answers_to(plan, args.show)
    try:
        text = explain_plan(plan, args.what, answers)
    except ValueError as error:
        raise UsageError([Diagnostic("E020", str(error))]) from None
    known = answers.found if answers else {}
    return Output(data=as_json({"format_version": "1.0", "explanation": text, **known}) if args.json else text)


def code_page(code: str) -> str:
    """The page about a code.  Raises UsageError for a code that does not exist."""
    folder = files("hexdsl.errors")
    known = sorted(p.name.removesuffix(".md") for p in folder.iterdir() if _CODE.fullmatch(p.name.removesuffix(".md")))
    if code not in known:
        raise UsageError([Diagnostic("E020", f"there is no code `{code}`", (), _near(code, known))])
    return folder.joinpath(f"{code}.md").read_text(encoding="utf-8")


def _near(code: str, known: Sequence[str]) -> str:
    """The codes of the same letter whose numbers are nearest."""
    alike = sorted((k for k in known if k[0] == code[0]), key=lambda k: abs(int(k[1:]) - int(code[1:])))
    if not alike:
        return "a code begins with `S` (syntax), `E` (meaning), `P` (plan) or `W` (warning)"
    return "the nearest are " + ", ".join(f"`{k}`" for k in sorted(alike[:3]))


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
    from hexdsl.passes.serve.answers import answers_to
    from hexdsl.report.html import plan_html

    plan = plan_of(args, args.subject)
    answers = answers_to(plan, args.show) if args.explain else None
    page = plan_html(plan, answers)
    if args.out is None:
        return Output(data=page)
    save_file(Path(args.out), page)
    return Output(
        data=as_json({"format_version": "1.0", "report": args.out}) if args.json else "", talk=f"wrote {args.out}"
    )
