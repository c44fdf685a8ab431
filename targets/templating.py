"""Jinja templates that cannot be injected into: in a shell template, every value is quoted unless it is `Raw`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HOME = re.compile(r"~[A-Za-z0-9_.-]*(?:/|$)")


class Raw(str):
    """Text that is made for the output: it is not quoted again."""

    __slots__ = ()


def render_shell(template: Path, **values: Any) -> str:
    """Fills in a template of a shell script.  A value comes out as one shell word, whatever it holds."""
    return _render(template, _shell_word, values)


def render_markdown(template: Path, **values: Any) -> str:
    """Fills in a template of a Markdown page.  A value comes out on one line; of markup it can only hold `code`."""
    return _render(template, _markdown_text, values)


def one_line(text: object) -> Raw:
    """A text for a comment: no line breaks and no control characters, so that it cannot end the comment."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return Raw(" ".join(printable.split()))


def shell_path(path: str) -> Raw:
    """A path as one shell word; `~` or `~user` at its beginning keeps its meaning."""
    home = _HOME.match(path)
    if home is None:
        return Raw(shlex.quote(path))
    rest = path[home.end() :]
    return Raw(home.group() + (shlex.quote(rest) if rest else ""))


def code(text: object) -> Raw:
    """Code in running Markdown text."""
    return Raw(f"`{one_line(text).replace('`', ' ')}`")


def _shell_word(value: Any) -> str:
    return value if isinstance(value, Raw) else shlex.quote(str(value))


def _markdown_text(value: Any) -> str:
    return value if isinstance(value, Raw) else re.sub(r"([\\*\[\]<>|])", r"\\\1", one_line(value))


def _render(template: Path, finalize: Callable[[Any], str], values: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        finalize=finalize,
        undefined=StrictUndefined,
        comment_start_string="<#",  # the usual `{#` is bash's length operator
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(line=one_line, path=shell_path, code=code)
    return environment.get_template(template.name).render(values)
