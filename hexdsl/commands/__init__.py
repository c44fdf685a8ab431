"""The commands of hexc: functions from parsed arguments to what is to be said."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from hexdsl.commands.base import Output

Command = Callable[[argparse.Namespace], Output]

_HOMES = {
    "check": "check", "fmt": "check",
    "plan": "plan", "compile": "plan", "run": "plan",
    "explain": "views", "diff": "views", "graph": "views", "report": "views",
    "profile": "profile", "calibrate": "calibrate", "estimate": "estimate",
    "simulate": "simulate", "replan": "replan",
    "schema": "reference", "completion": "reference", "targets": "reference", "passes": "reference",
}  # fmt: skip
"""Command to its module: a command imports only what it needs, so that `check` starts quickly."""


def table() -> dict[str, Command]:
    """Every command by its name; its module is imported when it is called."""
    return {name: _lazy(home, name) for name, home in _HOMES.items()}


def _lazy(home: str, name: str) -> Command:
    def call(args: argparse.Namespace) -> Output:
        command: Command = getattr(import_module(f"hexdsl.commands.{home}"), f"{name}_command")
        return command(args)

    return call
