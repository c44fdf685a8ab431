"""How near an objective is to its bound."""

from __future__ import annotations

from hexdsl.ir.plan import Certificate

CLOSE = 1e-6
"""An objective this near to its bound has reached it."""


def gap(objective: float, bound: float) -> float:
    """Relative distance of an objective from its bound."""
    return abs(objective - bound) / max(abs(objective), abs(bound), 1e-12)


def rebounded(found: Certificate, free: Certificate) -> Certificate:
    """What is proved about a plan that keeps margins: the bound of the search that kept none."""
    distance = gap(found.objective, free.bound)
    if free.gap == 1.0 or max(distance, found.gap) <= CLOSE:
        return found
    status = "optimal" if distance <= CLOSE else "feasible"
    return found.with_(bound=free.bound, gap=distance, exact=False, status=status)
