"""What a command says against what a document shows of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

CUT = "..."
"""A line, or the end of a line, that stands for anything."""


def parts(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block with the lines that follow each."""
    for piece in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = piece.rstrip("\n").split("\n")
        yield command, shown


def agrees(shown: list[str], said: str) -> bool:
    """Whether the lines shown are those said; spaces and empty lines do not count, and `...` stands for anything."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == CUT else _pattern(line) + r"\n" for line in shown if line.strip()
    )
    real = "".join(_tidy(line) + "\n" for line in said.splitlines() if line.strip())
    return re.fullmatch(pattern, real) is not None


def renewed(shown: list[str], said: str) -> list[str]:
    """The lines shown, each replaced by the line said that is most like it, in order."""
    left, found = [line.rstrip() for line in said.splitlines()], list[str]()
    for line in shown:
        if line.strip() in (CUT, ""):
            found.append(line)
            continue
        likeness = [difflib.SequenceMatcher(None, _tidy(line), _tidy(real)).ratio() for real in left]
        best = max(range(len(left)), key=lambda i: (likeness[i], -i), default=None)
        if best is not None and likeness[best] > 0.5:
            cut = line.rstrip().endswith(CUT) and agrees([line], left[best])
            found.append(line if cut else left[best])
            left = left[best + 1 :]
    return found


def _pattern(line: str) -> str:
    line = _tidy(line)
    return re.escape(line.removesuffix(CUT)) + ".*" if line.endswith(CUT) else re.escape(line)


def _tidy(line: str) -> str:
    return " ".join(line.split())
