"""A predicted number with its range, its parts, and where each part comes from."""

from __future__ import annotations

from dataclasses import dataclass

from hexdsl.costs.efficiency import Provenance, weakest


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an estimate, in the estimate's unit."""

    name: str
    value: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the range in which it is believed to lie; the terms add up to the value."""

    value: float
    low: float
    high: float
    terms: tuple[Term, ...]


def sum_terms(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Terms of one name put together, in order of first appearance; the weakest provenance stands, zeros go."""
    merged: dict[str, Term] = {}
    for term in terms:
        known = merged.get(term.name, Term(term.name, 0.0, term.provenance))
        merged[term.name] = Term(term.name, known.value + term.value, weakest(known.provenance, term.provenance))
    return tuple(t for t in merged.values() if t.value)
