"""Plans that were saved: a plan.json of its own, or that of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan
from hexdsl.lang.source import read_bytes
from hexdsl.lang.written import NoJson, complained, parse_json
from hexdsl.version import __version__

FILE = "plan.json"
MAX_PLAN = 200_000_000
AGAIN = "plan the spec again: `hexc plan SPEC --save plan.json`, or `hexc compile SPEC -o DIR --force` for a bundle"


def read_bundled(folder: Path) -> Plan:
    """The plan of a bundle's folder.  Raises UsageError (P013) where it is none."""
    if not (folder / FILE).exists():
        help_ = "name a spec, a plan.json or a folder that `hexc compile SPEC -o DIR` wrote"
        raise _unfit(f"`{folder}` is not a bundle: it has no {FILE}", help_)
    return read_plan(folder / FILE)


def read_plan(path: Path) -> Plan:
    """The plan of a plan.json.  Raises UsageError (P013) where it is none."""
    data = _data(path)
    if not isinstance(data, dict) or "hexc_version" not in data or "workflow" not in data:
        raise _unfit(f"`{path}` is not a plan", "name a file that `hexc plan SPEC --save FILE` wrote")
    _check_version(path, data)
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        place, message, known = complained(error.errors(include_url=False)[0], data)
        where, hint = f"`{place}`: " if place else "", f" ({known})" if known else ""
        raise _unfit(f"`{path}` is damaged: {where}{message}{hint}", _help(data)) from None


def _data(path: Path) -> Any:
    if not path.exists():
        raise _unfit(f"there is no plan `{path}`", "write one with `hexc plan SPEC --save FILE`")
    try:
        return parse_json(read_bytes(path, str(path), MAX_PLAN).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _unfit(f"`{path}` is not a plan: it is not UTF-8 text", AGAIN) from None
    except NoJson as error:
        raise _unfit(f"`{path}` is not a whole plan: {error}", AGAIN) from None


def _check_version(path: Path, data: dict[str, Any]) -> None:
    ours, theirs = Plan.model_fields["format_version"].default, data.get("format_version")
    if theirs == ours:
        return
    said = f"`{theirs}`" if isinstance(theirs, str) else "no version that is known"
    message = f"`{path}` has the plan format {said}; hexc {__version__} reads `{ours}`"
    raise _unfit(message, f"use the hexc that wrote it{_writer(data)}, or plan the spec again")


def _help(data: dict[str, Any]) -> str:
    """A plan of another hexc may be whole, and only other than ours."""
    return AGAIN if data["hexc_version"] == __version__ else f"it was written by another hexc{_writer(data)}; {AGAIN}"


def _writer(data: dict[str, Any]) -> str:
    writer = data["hexc_version"]
    return f" ({writer[:20]})" if isinstance(writer, str) else ""


def _unfit(message: str, help_: str) -> UsageError:
    return UsageError([Diagnostic("P013", message, (), help_)])
