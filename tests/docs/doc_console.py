"""What a command says against what a document shows of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

CUT = "..."
"""A line, or the end of a line, that stands for anything."""

ALIKE = 0.6
"""Two lines less alike than this are different lines."""


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
    """The lines shown, each replaced by the line said that stands for it now: the alignment that is most alike."""
    real = [line.rstrip() for line in said.splitlines() if line.strip()]
    kept = {i for i, line in enumerate(shown) if line.strip() in (CUT, "")}
    partner = _aligned([line for i, line in enumerate(shown) if i not in kept], real)
    found, texts = list[str](), iter(partner)
    for i, line in enumerate(shown):
        text = line if i in kept else next(texts)
        if text is not None:
            found.append(line if line.endswith(CUT) and agrees([line], text) else text)
    return found


def _aligned(shown: list[str], real: list[str]) -> list[str | None]:
    """For each line shown the real line that it becomes, in order; None where there is none (dynamic programming)."""
    best = [[(0.0, 0)] * (len(real) + 1) for _ in range(len(shown) + 1)]
    for i in reversed(range(len(shown))):
        for j in reversed(range(len(real))):
            like = difflib.SequenceMatcher(None, _tidy(shown[i]), _tidy(real[j])).ratio()
            match = (like + best[i + 1][j + 1][0], 1) if like > ALIKE else (0.0, 1)
            best[i][j] = max(match, (best[i + 1][j][0], 2), (best[i][j + 1][0], 3), key=lambda step: step[0])
    partner: list[str | None] = [None] * len(shown)
    i = j = 0
    while i < len(shown) and j < len(real):
        step = best[i][j][1]
        if step == 1:
            partner[i] = real[j]
        i, j = i + (step != 3), j + (step != 2)
    return partner


def _pattern(line: str) -> str:
    line = _tidy(line)
    return re.escape(line.removesuffix(CUT)) + ".*" if line.endswith(CUT) else re.escape(line)


def _tidy(line: str) -> str:
    return " ".join(line.split())
