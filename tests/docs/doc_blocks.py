"""Fenced code blocks of the documents, and putting new text into them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = ("bash", "console", "hex", "json", "python", "text", "toml")
OPTIONS = ("error", "exit", "file", "inside", "of", "rule", "save", "spec")

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)\n(?P<text>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its place, its language, the `name=value` words after it, and its text without indentation."""

    path: Path
    line: int
    language: str
    options: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}:{self.language}"

    def replace(self, text: str) -> None:
        """Writes other text into the document; the block must not be indented."""
        whole = self.path.read_text(encoding="utf-8")
        assert whole.count(self.text) == 1
        self.path.write_text(whole.replace(self.text, text), encoding="utf-8")


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a document in order."""
    whole = path.read_text(encoding="utf-8")
    for found in _FENCE.finditer(whole):
        language, *words = shlex.split(found["info"]) or [""]
        options = {name: value for name, _, value in (word.partition("=") for word in words)}
        text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(path, whole.count("\n", 0, found.start()) + 1, language, options, text)


def every(language: str, *options: str) -> list[Block]:
    """All blocks of a language that have one of these options, or none of ours where none is named."""
    found = (block for path in DOCUMENTS for block in blocks(path) if block.language == language)
    return [b for b in found if (any(o in b.options for o in options) if options else not b.options)]
