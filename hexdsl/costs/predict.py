"""One operating point of a replica as estimates: value, range, parts and provenance, for reports and plans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.estimate import Estimate, Term, sum_terms
from hexdsl.costs.serving import Load, Pipeline, Visit, waiting

TPOT_BAND: dict[Provenance, float] = {"given": 0.2, "profiled": 0.2, "measured": 0.2, "modelled": 0.4}
"""Relative half-width of the range of TPOT by provenance: nine in ten measured points lie within 20 %."""


def predict_tpot(line: Pipeline, batch: float, load: Load, prefill: bool = True) -> Estimate:
    """Seconds per output token."""
    value, burst = float(line.tpot(batch, load, prefill)), line.burst(batch, load)
    visits = line.visits(batch, load, prefill)
    slowest = max(visits, key=lambda v: float(v.held(burst)))
    lanes = float(line.micro_batches(batch))
    on_path = value > lanes * float(slowest.held(burst)) or len(visits) == 1
    chosen, times = (visits, 1.0) if on_path else ((slowest,), lanes)
    terms = [t for v in chosen for t in _terms(v, times, on_path, line, load)]
    if not on_path:
        bubbles = float(slowest.held(burst) - slowest.busy)
        terms.append(Term("pipeline bubbles", lanes * bubbles, "modelled"))
    return _banded(value, sum_terms(tuple(terms)), tpot_band(line))


def tpot_band(line: Pipeline) -> float:
    """Relative half-width of the range of TPOT: what a calibration's validation found, else that of the provenance.

    A calibration that leaves terms open widens the range where it errs by more, but does not narrow it.
    """
    usual = TPOT_BAND[line.provenance]
    found = [g.efficiency.tpot_band for stage in line.stages for g in stage.gpus]
    known = [band for band in found if band is not None]
    if line.provenance == "profiled" and len(known) == len(found):
        return max(known)
    return max(usual, *known) if known else usual


FIRST_WAVE = 0.5
"""Prompts ahead of a new one per client, where all clients of a closed loop start together and run few rounds."""

SLOWEST_START = 8.0
"""How many times the fixed cost of a prompt other engines may take: chosen so that nine in ten of 400 serving points
of Llama-3.1 lie in the range (vLLM, TensorRT-LLM, SGLang), so that these do not test it."""


def predict_ttft(line: Pipeline, batch: float, load: Load, rate: float | None = None) -> Estimate:
    """Mean seconds to the first token; read the range, not the value.

    The mean over a closed loop of clients depends on how many rounds they run: in the first, each prompt waits for half
    of the others.  The value stands for about ten rounds; high for one, and for an engine that is slow to start.
    """
    low, value, high = (float(x) for x in line.ttft(batch, load, rate))
    over, trust = line.overheads, weakest(line.provenance, line.overheads.provenance)
    step = float(line.tpot(batch, load))
    terms = (
        Term("prefill", float(line.first_token(load.prompt)), line.prompt_trust(load)),
        Term("start of a prompt", over.first_token_s, over.provenance),
        Term("wait for the running step", over.wait_steps * step, trust),
        Term("further steps of the prompt", float(line.more_steps(batch, load)) * step, trust),
        Term("queue", float(line.queue(batch, load, rate, step)), "modelled"),
    )
    if rate is None and over.provenance != "profiled":
        wave = FIRST_WAVE * batch * float(line.prompt_gap(load.prompt))
        high = max(high, low + SLOWEST_START * over.first_token_s + 2 * step + wave)
    return Estimate(value, low, high, sum_terms(terms))


def predict_first(line: Pipeline, load: Load, rate: float) -> Estimate:
    """Mean seconds to the first token on a replica that only computes prompts; read the range, not the value."""
    alone, over = float(line.first_token(load.prompt)), line.overheads
    queue = float(waiting(line.prompt_gap(load.prompt, load.cv_prompt), rate, load))
    terms = (
        Term("prefill", alone, line.prompt_trust(load)),
        Term("start of a prompt", over.first_token_s, over.provenance),
        Term("queue", queue, "modelled"),
    )
    value = alone + over.first_token_s + queue
    return Estimate(value, alone, alone + 3 * over.first_token_s + 2 * queue, sum_terms(terms))


def predict_prompts(line: Pipeline, load: Load) -> Estimate:
    """Prompts a second at most; the range is that of TPOT."""
    most, band = 1 / float(line.prompt_gap(load.prompt, load.cv_prompt)), tpot_band(line)
    return Estimate(most, most / (1 + band), most / (1 - band), (Term("requests", most, line.prompt_trust(load)),))


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
