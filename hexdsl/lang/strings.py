"""String literals: what an escape means."""

from __future__ import annotations

import re

ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))")
PLAIN = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


def unquote(literal: str) -> str:
    """The value of a literal with its quotes.  Its escapes must be known (`unknown_escapes` finds the others)."""
    return ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else PLAIN[m[2]], literal[1:-1])


def unknown_escapes(literal: str) -> tuple[tuple[int, str], ...]:
    """Offset in the literal and text of each escape that has no meaning."""
    found = (m for m in ESCAPE.finditer(literal))
    return tuple((m.start(), m[0]) for m in found if not _known(m))


def _known(match: re.Match[str]) -> bool:
    if match[1]:
        return match[1] != "0000" and not 0xD800 <= int(match[1], 16) <= 0xDFFF
    return match[2] in PLAIN
