"""The parser of `hex.lark`, built once a version and then read from the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import lark

from hexdsl.version import __version__

GRAMMAR = Path(__file__).with_name("hex.lark")


MAX_DEPTH = 64
"""Brackets and braces inside each other."""

MAX_OPERATORS = 100
"""Operators and calls in one value.  With MAX_DEPTH it bounds the tree's depth, so that recursion over it is safe."""


class TooDeep(Exception):
    """Text whose tree would be too deep; `token` is where the limit was passed."""

    def __init__(self, token: lark.Token, nested: bool) -> None:
        super().__init__()
        self.token = token
        self.nested = nested


class Lines:
    """Drops newlines where a statement cannot end: in brackets, after a comma or an operator."""

    always_accept: ClassVar[tuple[str, ...]] = ("_NL",)

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        """The tokens of `stream` without the newlines that mean nothing.  Raises TooDeep."""
        depth, last, weight = 0, "_NL", _Weight()
        for token in stream:
            depth += (token.type in {"LPAR", "LSQB"}) - (token.type in {"RPAR", "RSQB"})
            if token.type == "_NL" and (depth > 0 or last in CONTINUE):
                continue
            weight.add(token, last)
            last = token.type
            yield token


OPEN = frozenset({"LPAR", "LSQB", "LBRACE"})
CLOSE = frozenset({"RPAR", "RSQB", "RBRACE"})
OPERATOR = frozenset({"_DOTS", "COMPARE", "SIGN", "SCALE", "OR", "AND", "NOT", "IN"})
SEPARATOR = frozenset({"COMMA", "_NL", "_ARROW", "_LINK"})
CONTINUE = OPERATOR | SEPARATOR
VALUE_END = CLOSE | {"NAME", "NUMBER", "QUANTITY", "MONEY", "STRING"}


class _Weight:
    """Counts operators and open brackets: an upper bound for the depth of the tree that the tokens will make."""

    def __init__(self) -> None:
        self.open = [_Level(body=True)]

    def add(self, token: lark.Token, last: str) -> None:
        top = self.open[-1]
        if token.type in OPEN:
            self.open.append(_Level(body=token.type == "LBRACE" and last in VALUE_END))
        elif token.type in CLOSE and len(self.open) > 1:
            self.open.pop()
            self.open[-1].now += 0 if top.body else top.most() + 1
        elif token.type in SEPARATOR:
            top.peak, top.now = top.most(), 0
        elif token.type in OPERATOR or token.type == "DOT":
            top.now += 1
        nested = len(self.open) > MAX_DEPTH + 1
        if nested or self.open[-1].now > MAX_OPERATORS:
            raise TooDeep(token, nested)


@dataclass(slots=True)
class _Level:
    """Inside one bracket: operators of the value at hand and the most of the values before it."""

    body: bool
    now: int = 0
    peak: int = 0

    def most(self) -> int:
        return max(self.now, self.peak)


def build(strict: bool = False) -> lark.Lark:
    """A new parser made from the grammar's text.  `strict` also refuses every conflict and collision (slow)."""
    text = GRAMMAR.read_text(encoding="utf-8")
    return lark.Lark(text, parser="lalr", propagate_positions=True, postlex=Lines(), strict=strict)


@cache
def parser() -> lark.Lark:
    """The parser, from the cache where there is a sound one."""
    with contextlib.suppress(Exception):  # a missing, torn or foreign file: build again
        return _read(cache_path())
    built = build()
    with contextlib.suppress(OSError, RuntimeError):  # no place to write, or no home folder: every run builds
        _write(built, cache_path())
    return built


def cache_path() -> Path:
    """Where this grammar's parser is kept; the name changes with everything that could change the parser."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    key = hashlib.sha256(GRAMMAR.read_bytes() + Path(__file__).read_bytes())
    key.update(f"{lark.__version__} {sys.version_info[:2]}".encode())
    return Path(base).expanduser() / "hexc" / __version__ / f"hex-{key.hexdigest()[:16]}.parser"


def _read(path: Path) -> lark.Lark:
    with path.open("rb") as file:
        return lark.Lark.load(file)


def _write(built: lark.Lark, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            built.save(file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
