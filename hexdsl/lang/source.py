"""The text of a spec and how it is read: every way in which a file can be unfit has its own message."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hexdsl.ir.diagnostic import Diagnostic, Span, SpecError, UsageError

MAX_BYTES = 1_000_000
"""Hand-written specs are a few kilobytes; anything near this limit is the wrong file."""


@dataclass(frozen=True)
class Source:
    """A named text.  Lines end with `\\n`."""

    name: str
    text: str

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The lines without their ends; an empty text has one empty line."""
        return tuple(self.text.split("\n"))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The offset of each line's first character."""
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line) + 1)
        return tuple(starts)

    def span(self, line: int, column: int, width: int = 1) -> Span:
        """The span of `width` characters at a line and column (both from 1)."""
        start = self.starts[line - 1] + column - 1
        return Span(self.name, line, column, start, start + width)


def text_of(source: Source, span: Span) -> str:
    """What the user wrote at `span`."""
    return source.text[span.start : span.end]


def read_source(path: Path, name: str) -> Source:
    """The file at `path`; `name` is what messages call it.

    Raises UsageError for a file that cannot be read (E001 to E003), SpecError for one that is no spec (S090, S091).
    """
    return Source(name, decode(read_bytes(path, name, MAX_BYTES + 1), name))


def decode(data: bytes, name: str) -> str:
    """The text of a file's bytes: UTF-8 with or without a byte order mark, any line ends.  Raises SpecError."""
    if len(data) > MAX_BYTES:
        raise _unfit("S090", f"`{name}` is larger than 1 MB, the limit for a spec", "give large data to `file(...)`")
    if b"\0" in data:
        raise _unfit("S091", f"`{name}` is not a text file: it contains NUL bytes", "a spec is UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unfit("S091", f"`{name}` is not UTF-8 text (line {line})", "save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, name: str, most: int) -> bytes:
    """The first `most` bytes of a file.  Raises UsageError (E001 to E003)."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError([Diagnostic("E001", f"there is no file `{name}`")]) from None
    except IsADirectoryError:
        raise UsageError([Diagnostic("E002", f"`{name}` is a folder, not a file")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError([Diagnostic("E003", f"`{name}` cannot be read: {reason}")]) from None


def _unfit(code: str, message: str, help: str) -> SpecError:
    return SpecError([Diagnostic(code, message, help=help)])


def check_regular(path: Path, name: str) -> None:
    """Raises UsageError (E003) for a pipe or a device, which might never end."""
    try:
        unending = path.exists() and not (path.is_file() or path.is_dir())
    except OSError:
        return  # Reading it says why.
    if unending:
        raise UsageError([Diagnostic("E003", f"`{name}` is not a regular file")])
