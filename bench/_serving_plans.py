"""Serve plans for the table: specs written as text, planned by hexc, and pipelines priced by its cost model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from _serving_rows import Spent, timed

from hexdsl.api import load_text
from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.memory import Engine, Slice, max_tokens
from hexdsl.costs.serving import Load, Pipeline, Stage, pipeline
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Plan
from hexdsl.lang.resolve import Loaded
from hexdsl.passes.serve.adapter import arch_of, formats_of, gpu_of, network_of
from hexdsl.pipeline import choose, plan_spec

IMPORTS = 'import "std/gpus.hex"\nimport "std/models.hex"\n'
MAX_BATCH = 1024
"""Sequences at once, for engines and for the plans of others alike."""


@dataclass(frozen=True)
class Outcome:
    """A plan or why there is none, and the seconds that it took from text to plan."""

    plan: Plan | None
    why: str
    spent: Spent

    @property
    def gpus(self) -> int:
        return 0 if self.plan is None else sum(len(m.devices) for m in self.plan.machines)

    def figure(self, metric: str) -> float:
        """A predicted figure of the whole; 0 without a plan."""
        found = () if self.plan is None else self.plan.predictions
        return next((float(p.value) for p in found if p.metric == metric), 0.0)

    def simulated(self, metric: str) -> float:
        """The mean of a simulated figure; nan where it was not simulated."""
        figures = self.plan.simulation.figures if self.plan is not None and self.plan.simulation else ()
        return next((float(f.mean) for f in figures if f.metric == metric), float("nan"))

    @property
    def holds(self) -> bool:
        """Whether every rule holds, as predicted and as simulated."""
        if self.plan is None:
            return False
        played = self.plan.simulation.rules if self.plan.simulation else ()
        return all(r.holds for r in (*self.plan.rules, *played))

    @property
    def layout(self) -> str:
        """Replicas by role, GPUs and degrees, such as `8 x both H100 tp1`."""
        if self.plan is None:
            return self.why
        kinds: dict[str, int] = {}
        for r in self.plan.replicas:
            stages = "+".join(f"{s.gpu} tp{len(s.devices)}" for s in r.stages)
            role = getattr(r, "role", "both")
            name = stages if role == "both" else f"{role} {stages}"
            kinds[name] = kinds.get(name, 0) + 1
        return ", ".join(f"{n} x {k}" for k, n in kinds.items())


@cache
def planned(text: str) -> Outcome:
    """Plans a spec, once."""
    outcome, spent = timed(lambda: _planned(text))
    return Outcome(outcome[0], outcome[1], spent)


def _planned(text: str) -> tuple[Plan | None, str]:
    try:
        return plan_spec(load_text(text, "case.hex").spec, None, lambda *_: None), ""
    except SpecError as error:
        return None, "; ".join(f"{d.code}: {d.message}" for d in error.diagnostics)
    except Exception as error:  # a crash is a row of the table, not the end of it
        return None, f"crashed: {type(error).__name__}: {error}"


@dataclass(frozen=True)
class Judge:
    """hexc's cost model for one spec: GPUs by group, the model, the load."""

    gpus: dict[str, tuple[Gpu, Formats, Link | None]]
    between: dict[tuple[str, str], Link]
    arch: Arch
    load: Load
    engine: Engine

    @staticmethod
    def of(loaded: Loaded, load: Load) -> Judge:
        serve = choose(loaded.spec, None)
        network = network_of(serve.on)
        gpus = {
            n.name: (gpu_of(n.gpus.gpu), formats_of(n.gpus.gpu, serve.model), network.inside[n.name])  # type: ignore[attr-defined]
            for n in serve.on.nodes
        }
        return Judge(gpus, network.between, arch_of(serve.model), load, Engine(max_batch=MAX_BATCH))  # type: ignore[attr-defined]

    def line(self, group: str, tp: int, pp: int) -> Pipeline:
        """Equal stages on GPUs of one group."""
        gpu, formats, link = self.gpus[group]
        cuts = [self.arch.layers * i // pp for i in range(pp + 1)]
        stages = [Stage((gpu,) * tp, b - a, link) for a, b in pairwise(cuts)]
        hop = self.between.get((group, group)) or link or Link(16e9)
        return pipeline(stages, [hop] * (pp - 1), self.arch, formats)

    def tokens(self, group: str, tp: int, pp: int) -> float:
        """KV tokens that the tightest stage holds."""
        gpu, formats, _ = self.gpus[group]
        cuts = [self.arch.layers * i // pp for i in range(pp + 1)]
        parts = pairwise(cuts)
        return min(float(max_tokens(gpu, self.arch, formats, Slice(a, b, tp), self.engine)) for a, b in parts)

    def legal(self, group: str, tp: int, pp: int, ttft_s: float, tpot_s: float) -> tuple[int, float]:
        """The batch at which a layout serves the most requests/s within the limits, and that rate; (0, 0) at none."""
        line, room = self.line(group, tp, pp), self.tokens(group, tp, pp)
        each = float(np.asarray(self.load.prompt)) + float(np.asarray(self.load.output))
        batches = np.arange(1, MAX_BATCH + 1, dtype=np.float64)
        tpot = line.tpot(batches, self.load)
        first = line.ttft(batches, self.load, None, tpot)[1]
        ok = (tpot <= tpot_s) & (first <= ttft_s) & (batches * each <= room)
        rates = np.where(ok, line.rate(batches, self.load), 0.0)
        best = int(np.argmax(rates))
        return (int(batches[best]), float(rates[best])) if ok.any() else (0, 0.0)

    def decode_rate(self, group: str, tp: int, pp: int, tpot_s: float) -> float:
        """Requests/s of a replica that only decodes, within the limit."""
        line, room = self.line(group, tp, pp), self.tokens(group, tp, pp)
        each = float(np.asarray(self.load.prompt)) + float(np.asarray(self.load.output))
        batches = np.arange(1, MAX_BATCH + 1, dtype=np.float64)
        ok = (line.tpot(batches, self.load, prefill=False) <= tpot_s) & (batches * each <= room)
        return float(np.where(ok, line.rate(batches, self.load, prefill=False), 0.0).max())

    def prefill_rate(self, group: str, tp: int, pp: int) -> float:
        """Requests/s of a replica that only prefills: the least gap between prompts."""
        return 1 / float(self.line(group, tp, pp).prompt_gap(self.load.prompt))


def nodes(name: str, count: int, size: int, gpu: str, more: Sequence[str] = ()) -> str:
    """A `nodes` line."""
    fields = ", ".join((f"count = {count}", f"gpus = {size} * {gpu}", *more))
    return f"  nodes {name} {{ {fields} }}\n"
