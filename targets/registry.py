"""The engines and launchers, ours and those of other packages (entry points), and the way of a plan through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, cast

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError, UsageError
from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.ir.values import suggestion
from hexdsl.targets.base import Engine, Launcher

ENGINES: Mapping[str, str] = {
    "torch": "hexdsl.targets.engines.torch",
    "vllm": "hexdsl.targets.engines.vllm",
}
LAUNCHERS: Mapping[str, str] = {
    "local": "hexdsl.targets.launchers.local",
}

Kind = Literal["engine", "launcher"]
OURS = "hexdsl"


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine or launcher, and the package that brings it."""

    name: str
    owner: str
    place: str

    @property
    def about(self) -> str:
        """The first line of our package's docstring, or who brings it."""
        if self.owner != OURS:
            return f"from package {self.owner}"
        return str(self.load().__doc__).partition("\n")[0].partition(": ")[2]

    def load(self) -> Any:
        """The package or object.  Raises UsageError (P011) where another package's cannot be imported."""
        if self.owner == OURS:
            return import_module(self.place)
        try:
            return EntryPoint(self.name, self.place, "").load()
        except (ImportError, AttributeError) as error:
            raise _error(f"`{self.name}` of package {self.owner} cannot be loaded: {error}") from None


def lower(plan: Plan, target: Target, folder: Path) -> Launch:
    """The process table of a plan with all files of its bundle.  `folder` is the spec's.

    Raises UsageError (P011) for an unknown engine or launcher, NoPlanError (P012) where they cannot run the plan.
    """
    by, start = engine(target.name), launcher(target.launcher.kind)
    against = [(f"engine `{target.name}`", r) for r in by.supports(plan, target)]
    against += [(f"launcher `{target.launcher.kind}`", r) for r in start.supports(plan, target)]
    if against:
        said = ((f"{who} cannot run this plan: {reason.text}", reason.help) for who, reason in against)
        raise NoPlanError([Diagnostic("P012", message, (), help_) for message, help_ in said])
    launch = by.lower(plan, target, folder.absolute())
    return launch.with_(files=(*launch.files, *start.files(launch, target)))


def describe() -> tuple[dict[str, str], ...]:
    """Kind, name and one line about every engine and launcher."""
    kinds: tuple[Kind, ...] = ("engine", "launcher")
    return tuple({"kind": kind, "name": e.name, "about": e.about} for kind in kinds for e in entries(kind))


def engine(name: str) -> Engine:
    """The engine of this name.  Raises UsageError (P011)."""
    return cast(Engine, _find("engine", name))


def launcher(name: str) -> Launcher:
    """The launcher of this name.  Raises UsageError (P011)."""
    return cast(Launcher, _find("launcher", name))


def entries(kind: Kind) -> tuple[Entry, ...]:
    """All engines or launchers by name.  Raises UsageError (P011) where two packages bring the same name."""
    found: dict[str, Entry] = {}
    for entry in (*_ours(kind), *_theirs(kind)):
        if entry.name in found:
            owners = f"{found[entry.name].owner} and {entry.owner}"
            raise _error(f"two packages bring a {kind} named `{entry.name}`: {owners}", "uninstall one of them")
        found[entry.name] = entry
    return tuple(found[name] for name in sorted(found))


def _find(kind: Kind, name: str) -> Any:
    known = {entry.name: entry for entry in entries(kind)}
    if name not in known:
        raise _error(f"there is no {kind} `{name}` in this version", suggestion(name, known))
    return known[name].load()


def _ours(kind: Kind) -> tuple[Entry, ...]:
    table = ENGINES if kind == "engine" else LAUNCHERS
    return tuple(Entry(name, OURS, place) for name, place in table.items())


def _theirs(kind: Kind) -> tuple[Entry, ...]:
    found = entry_points(group=f"hexdsl.{kind}s")
    return tuple(Entry(e.name, e.dist.name if e.dist else "an unnamed package", e.value) for e in found)


def _error(message: str, help_: str | None = None) -> UsageError:
    return UsageError([Diagnostic("P011", message, (), help_)])
