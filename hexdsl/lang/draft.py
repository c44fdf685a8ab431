"""A block on its way to its record: values by field, and where they were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hexdsl.ir.diagnostic import Span
from hexdsl.ir.spec.rule import Compare, Metric, Rule
from hexdsl.lang.evaluate import Place, Value
from hexdsl.lang.scope import BAD
from hexdsl.lang.shape import Shape


@dataclass
class Draft:
    """A block on its way to its record.

    `bad` are fields that were reported as wrong.  `guessed` are fields that a misspelt name probably meant, `lacking`
    those that the base lacks already: neither is reported as missing.  `inherited` counts the entries of each tuple
    field that come from the base; the block's own statements may take their place.
    """

    shape: Shape
    place: Place
    title: str
    values: dict[str, Any] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    written: dict[str, Span] = field(default_factory=dict)
    inherited: dict[str, int] = field(default_factory=dict)

    def start_from(self, base: Draft) -> None:
        """Takes over the values of a base."""
        self.values, self.bad = dict(base.values), set(base.bad)
        self.place.parts = dict(base.place.parts)
        self.lacking = {f.name for f in self.shape.fields.values() if f.required} - self.values.keys()
        self.inherited = {name: len(v) for name, v in self.values.items() if isinstance(v, tuple)}

    def copy(self) -> Draft:
        """A draft that may be filled from files while this one stays a base for others."""
        place = Place(self.place.span, dict(self.place.parts))
        made = Draft(self.shape, place, self.title, dict(self.values), set(self.bad))
        made.guessed, made.lacking = self.guessed, self.lacking
        return made

    @property
    def reported(self) -> set[str]:
        """The fields whose absence or value was reported already."""
        return self.bad | (self.guessed | self.lacking) - self.values.keys()

    def put(self, name: str, value: Value, place: Place) -> None:
        """Sets a field; a value that was reported as wrong only marks it."""
        if value is BAD:
            self.put_bad(name)
            return
        self.values[name] = value
        self.place.parts[name] = place

    def put_bad(self, name: str) -> None:
        """Marks a field as reported."""
        self.values.pop(name, None)
        self.bad.add(name)

    def append(self, name: str, value: Value, place: Place) -> None:
        """Adds to a tuple field."""
        if value is BAD:
            self.bad.add(name)
            return
        entries = self.values.get(name, ())
        self._set(name, (*entries, value), {**self._parts(name), len(entries): place})

    def drop_inherited(self, name: str, index: int) -> None:
        """Removes one of the base's entries from a tuple field."""
        entries, parts = self.values[name], self._parts(name)
        kept = [i for i in range(len(entries)) if i != index]
        self._set(name, tuple(entries[i] for i in kept), {new: parts[old] for new, old in enumerate(kept)})
        self.inherited[name] -= 1

    def drop_pin(self, decision: str) -> None:
        """Removes the base's pin of a decision."""
        for i, rule in enumerate(self.values.get("rules", ())[: self.inherited.get("rules", 0)]):
            if _pins(rule, decision):
                self.drop_inherited("rules", i)
                return

    def drop_objectives(self) -> None:
        """Removes the base's objectives: a block that has some of its own has only these."""
        while self.inherited.get("objectives", 0):
            self.drop_inherited("objectives", 0)

    def _parts(self, name: str) -> dict[str | int, Place]:
        known = self.place.parts.get(name)
        return known.parts if known else {}

    def _set(self, name: str, entries: tuple[Any, ...], parts: dict[str | int, Place]) -> None:
        span = self.place.parts[name].span if name in self.place.parts else next(iter(parts.values())).span
        self.values[name] = entries
        self.place.parts[name] = Place(span, parts)


def _pins(rule: Rule, decision: str) -> bool:
    expr = rule.expr
    return isinstance(expr, Compare) and expr.op == "==" and expr.left == Metric(name=decision)
