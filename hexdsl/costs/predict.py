"""One operating point of a replica as estimates: value, range, parts and provenance, for reports and plans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.estimate import Estimate, Term, sum_terms
from hexdsl.costs.serving import Load, Pipeline, Visit

TPOT_BAND: dict[Provenance, float] = {"given": 0.2, "profiled": 0.2, "measured": 0.2, "modelled": 0.4}
"""Relative half-width of the range of TPOT: nine in ten measured points lie within 20 %."""


def predict_tpot(line: Pipeline, batch: float, load: Load, prefill: bool = True) -> Estimate:
    """Seconds per output token."""
    value = float(line.tpot(batch, load, prefill))
    visits = line.visits(batch, load, prefill)
    slowest = max(visits, key=lambda v: float(v.busy))
    on_path = value > float(line.micro_batches(batch) * slowest.busy) or len(visits) == 1
    chosen, times = (visits, 1.0) if on_path else ((slowest,), float(line.micro_batches(batch)))
    terms = sum_terms(tuple(t for v in chosen for t in _terms(v, times, on_path, line, load)))
    return _banded(value, terms, TPOT_BAND[line.provenance])


def predict_ttft(line: Pipeline, batch: float, load: Load, rate: float | None = None) -> Estimate:
    """Mean seconds to the first token; read the range, not the value."""
    low, value, high = (float(x) for x in line.ttft(batch, load, rate))
    over, trust = line.overheads, weakest(line.provenance, line.overheads.provenance)
    terms = (
        Term("prefill", float(line.first_token(load.prompt)), line.prompt_trust(load)),
        Term("start of a prompt", over.first_token_s, over.provenance),
        Term("wait for the running step", over.wait_steps * float(line.tpot(batch, load)), trust),
        Term("queue", float(line.queue(batch, load, rate)), "modelled"),
    )
    return Estimate(value, low, high, sum_terms(terms))


def predict_rate(line: Pipeline, batch: float, load: Load, prefill: bool = True) -> Estimate:
    """Requests a second; the range is that of TPOT."""
    tpot = predict_tpot(line, batch, load, prefill)
    tokens = batch / float(np.asarray(load.output))
    terms = (Term("requests", tokens / tpot.value, line.provenance),)
    return Estimate(tokens / tpot.value, tokens / tpot.high, tokens / tpot.low, terms)


def _terms(visit: Visit, times: float, with_latency: bool, line: Pipeline, load: Load) -> Iterator[Term]:
    step, trust = visit.decode, visit.provenance
    yield Term("weights", times * float(step.weights), trust)
    yield Term("compute", times * float(step.compute), trust)
    yield Term("KV cache", times * float(step.kv), trust)
    yield Term("network", times * float(step.network) + with_latency * float(visit.latency), trust)
    yield Term("overhead", times * float(step.overhead), line.overheads.provenance)
    yield Term("prefill of others", times * float(visit.prefill), weakest(trust, line.prompt_trust(load)))


def _banded(value: float, terms: tuple[Term, ...], band: float) -> Estimate:
    return Estimate(value, value * (1 - band), value * (1 + band), terms)
