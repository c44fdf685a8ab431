"""Whether a value is of the form that its field takes.  What its type demands beyond that, its schema checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hexdsl.ir.diagnostic import Span
from hexdsl.ir.values import Call, Word
from hexdsl.lang import nodes
from hexdsl.lang.complaints import header
from hexdsl.lang.evaluate import Value, said
from hexdsl.lang.scope import Module, hint
from hexdsl.lang.shape import FieldShape


@dataclass(frozen=True)
class Misfit:
    """Why a value cannot be that of a field: code, message, place and help."""

    code: str
    message: str
    span: Span
    help: str


def misfit(field: FieldShape, value: Value, node: nodes.Expr, module: Module) -> Misfit | None:
    """The first reason why a value has not the form that its field takes; None where it has."""
    if field.block is not None:
        return _block(field, value, node)
    if isinstance(value, Word) and not field.words and (field.kinds or field.unit):
        return _unknown(field, value, node, module)
    if field.reference is not None and not isinstance(value, field.reference):
        kind = field.kinds[0]
        return Misfit("E023", f"{said(value)} is not a {kind}", node.span, f"name a `{kind}` block")
    if field.flag and not isinstance(value, bool):
        return Misfit("E110", f"{said(value)} is neither true nor false", node.span, "write `true` or `false`")
    if field.prose or field.file:
        return _string(field, value, node)
    return None


def unquoted(field: FieldShape, node: nodes.Expr, module: Module) -> Misfit | None:
    """A file's name without its quotes, such as `config.json`, which reads like a name of an imported file."""
    if not (field.prose or field.file) or not isinstance(node, nodes.Member) or not isinstance(node.base, nodes.Name):
        return None
    text = f"{node.base.name}.{node.name}"
    return None if node.base.name in module.aliases else _no_string(text, node.span)


def _no_string(text: str, span: Span) -> Misfit:
    return Misfit("E020", f"nothing is named `{text}`", span, f'a string has quotes: `"{text}"`')


def _block(field: FieldShape, value: Value, node: nodes.Expr) -> Misfit | None:
    if isinstance(value, dict) and not field.many:
        return None
    return Misfit("E104", f"`{field.written}` is a block", node.span, f"write `{header(field)} {{ ... }}`")


def _unknown(field: FieldShape, word: Word, node: nodes.Expr, module: Module) -> Misfit:
    kind = field.kinds[0] if field.kinds else ""
    message = f"there is no {kind} `{word}`" if kind else f"nothing is named `{word}`"
    return Misfit("E020", message, node.span, hint(word, module, kind))


def _string(field: FieldShape, value: Value, node: nodes.Expr) -> Misfit | None:
    for word, span in _bare_words(value, node):
        return _no_string(word, span)
    if field.file and not (isinstance(value, str) or _is_file(value)):
        return Misfit("E110", f"{said(value)} is not a file", node.span, f'write `{field.written} = file("NAME")`')
    return None


def _bare_words(value: Any, node: nodes.Expr) -> Iterator[tuple[str, Span]]:
    """Words without quotes in the place of strings."""
    if isinstance(value, Word):
        yield str(value), node.span
    if isinstance(value, tuple) and isinstance(node, nodes.ListLit):
        for inner, inner_node in zip(value, node.items, strict=True):
            yield from _bare_words(inner, inner_node)


def _is_file(value: Value) -> bool:
    call = isinstance(value, Call) and value.name == "file" and not value.named
    return call and len(value.args) == 1 and type(value.args[0]) is str
