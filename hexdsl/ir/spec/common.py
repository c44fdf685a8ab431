"""Pieces that several block kinds share."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.values import Call

IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Names of blocks: they reach file names, process names and shells, so nothing else is let through."""

Name = Annotated[str, Field(pattern=IDENTIFIER, max_length=64)]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _host(value: Any) -> Any:
    if isinstance(value, str) and not _HOST.fullmatch(value):
        help_ = "a host is letters, digits, dots and hyphens, such as `gpu-07.lab`"
        raise PydanticCustomError("host", "`{text}` is not a host name", {"text": value[:60], "help": help_})
    return value


Host = Annotated[str, BeforeValidator(_host)]


class FileRef(Ir):
    """A file that the spec names, relative to the root spec's folder, and the digest of what it held."""

    FORM: ClassVar[str] = 'a file, such as `file("NAME")`'

    path: str
    sha256: str = ""


def file_of(value: Any) -> Any:
    """The fields of a file that is written as `file("...")` or as a string."""
    if isinstance(value, Call) and value.name == "file" and len(value.args) == 1 and not value.named:
        return {"path": value.args[0]}
    return {"path": value} if isinstance(value, str) else value


File = Annotated[FileRef, BeforeValidator(file_of)]
"""`file("peers.csv")`, or just the string."""
