"""What hexc says to a user about a line of a spec.  `hexdsl.lang.diagnostics` turns it into text or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a source file.  `line` and `column` count from 1, `start` and `end` are character offsets."""

    file: str
    line: int
    column: int
    start: int = 0
    end: int = 1

    @property
    def width(self) -> int:
        return max(1, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Label:
    """A place and a few words that point at it."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message: `S###` syntax, `E###` meaning, `P###` plan, `W###` warning.  The first label is the primary one."""

    code: str
    message: str
    labels: tuple[Label, ...] = ()
    help: str | None = None
    severity: Severity = "error"
    notes: tuple[str, ...] = ()


class SpecError(Exception):
    """The spec is wrong: exit code 1."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(d.message for d in self.diagnostics))


class NoPlanError(SpecError):
    """No plan exists: exit code 3."""


class LimitError(SpecError):
    """A solver limit ended the search before any plan was found: exit code 4."""


class UsageError(SpecError):
    """The command was called wrongly, or an input or output place is unusable: exit code 2."""
