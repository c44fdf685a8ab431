"""Characters that word processors and web pages put where a spec wants an ASCII mark."""

from __future__ import annotations

import unicodedata
from types import MappingProxyType

SPACES = frozenset("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\ufeff\u200b")
"""No-break, wide, thin and zero-width spaces."""

LOOKALIKES = MappingProxyType(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),  # double quotes
        **dict.fromkeys("\u2018\u2019\u00b4`", '"'),  # single quotes, accents
        **dict.fromkeys("\u2013\u2014\u2212", "-"),  # dashes, minus
        **dict.fromkeys("\u00d7\u00b7", "*"),
        **dict.fromkeys("\u2264\u2a7d", "<="),
        **dict.fromkeys("\u2265\u2a7e", ">="),
        **dict.fromkeys("\u00b5\u03bc", "us"),  # the micro sign of a time
        **dict.fromkeys("\u20ac\u00a3", "$"),  # other currencies
        "\u2260": "!=",
        "\u2192": "->",
        "\u2194": "<->",
        "\u00f7": "/",
        "\u2026": "..",
        "\uff0c": ",",
        "\uff1a": "=",
    }
)


def meant(char: str) -> str | None:
    """The ASCII text that a character stands for; None where it stands for nothing."""
    plain = unicodedata.normalize("NFKC", char)
    return LOOKALIKES.get(char) or (plain if plain != char and plain.isascii() else None)


def advice(char: str) -> str | None:
    """What to write for a character that a spec may not have outside strings and comments."""
    if better := meant(char):
        return f"write `{better}`"
    if char.isascii() or not char.isalnum():
        return None
    name = unicodedata.name(char, "no letter of a name").lower()
    return f"it is the {name}; names are of `a` to `z`, `A` to `Z`, digits and `_`"
