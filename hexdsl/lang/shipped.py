"""The shipped catalog: its folder, and the blocks of its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from hexdsl.ir.diagnostic import Span
from hexdsl.lang import nodes
from hexdsl.lang.source import Source
from hexdsl.lang.syntax import parse

_BLOCK = re.compile(r"^(?:gpu|model) (\w+)(?: : \w+)? \{", re.MULTILINE)


@cache
def shipped_folder() -> Path:
    """The folder of the shipped catalog."""
    return Path(__file__).parents[1].joinpath("std").resolve()


def shipped_blocks(source: Source) -> Iterator[tuple[str, Span, Callable[[], nodes.Block]]]:
    """Name, place and parser of each block of a shipped file: `gpu` and `model` blocks that begin in the first column.

    A spec uses a few of a file's hundred blocks, so each is parsed when it is asked for.  A test parses them all.
    """
    text = source.text
    found = list(_BLOCK.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    for match, end in zip(found, ends, strict=True):
        line = text.count("\n", 0, match.start()) + 1
        span = source.span(line, match.start(1) - match.start() + 1, len(match[1]))
        yield match[1], span, partial(_block, source, match.start(), end)


def _block(source: Source, start: int, end: int) -> nodes.Block:
    """One block of a shipped file, at the place where it stands: what comes before is blanked."""
    before = re.sub(r"[^\n]", " ", source.text[:start])
    (block,) = parse(Source(source.name, before + source.text[start:end])).statements
    assert isinstance(block, nodes.Block)
    return block
