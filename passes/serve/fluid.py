"""GPUs in use as a fluid: what they do in each sort of replica.

A kind is a class of machines and a degree t.  Replicas of one stage are told by it: y of them take t GPUs each, and
serve at most the rate that memory, seats and limits on latencies leave them.

Pipelines are told by a span: from l to h sequences in a micro-batch, and from m to m' micro-batches.  For a stage of n
layers on t GPUs, each of these holds f = n / t layers; in a replica of rate R with N = b times so many requests in
all, whose tokens come T seconds apart:
    busy     R f W(b) <= 1       W(b) = t (P B + o D(b) / b) GPU-seconds of a layer and request: P of its prompt, times
                                 B >= 1 as prompts come in bursts (`hexdsl.costs.bursts`), and o answer tokens at a
                                 b-th of a decode step D(b) each
    Little   N = R o T, and T is at least the time through all stages and the output head H:
             R sum f b V(b) / t <= N summed over its GPUs, V the same as W without B
    depth    there is a micro-batch for each stage, unless N is less:  sum of 1 / t over its GPUs is from m to m'
    memory   f (w + N q) <= M    w the weights of a layer, q its KV cache of a request, M the GPU's budget, of which the
                                 tables of the vocabulary and the logits take E bytes in all
    seats    N <= max_batch
Summed over the replicas of span k and over the GPUs of a kind, with a = GPUs in use, r = sum of R f, e = R of the
replicas whose head lies there, and R_k, N_k, Y_k requests/s, running requests and replicas:
    r W(h) <= a,   sum r = L R_k,   sum e = R_k                             (W falls with b)
    sum (r V(l) + e H(l)) l / t <= N_k                                      (b V(b) and b H(b) rise with b)
    m Y_k <= sum a / t,   sum a / t <= m' Y_k where l > 1,   m l Y_k <= N_k <= min(m' h, max_batch) Y_k
    sum a M / q >= L (N_k + Y_k min w / q) + Y_k min E / q,   sum a M / w >= L (Y_k + N_k min q / w) + Y_k min E / w
Limits x first token + y T <= z of every replica become  x sum r A + y N_k / o <= z R_k,  A the seconds of a layer with
a prompt alone.  Replicas that only prefill need no spans: r t P <= a, sum r = L R_0.
The replicas of one stage, of each kind, and the pipelines of each span may be counted in whole numbers.  Every plan
gives a solution: its own figures, whatever the spans.  Narrow ones tell more, but are many:
`hexdsl.passes.serve.relaxation` begins with wide ones and divides those in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from hexdsl.costs.arch import embedding_params, kv_shards, kv_values, layer_params
from hexdsl.costs.bursts import burst, step_budget
from hexdsl.costs.memory import Slice, activation_bytes, budget_bytes
from hexdsl.passes.serve.layers import Floats
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import Problem
from hexdsl.solve import NonNegativeIntegers, NonNegativeReals, Var, quicksum

COARSE, FINE = 2.0, 1.04
"""Ratio of the ends of a span of micro-batch sizes: at first, and where it is not divided any more."""

ENDLESS = 1_000_000
LANES = ((2, 3), (4, 7), (8, 15), (16, ENDLESS))
"""Numbers of micro-batches that are told apart at first, since they decide how prompts in bursts hold up a pipeline."""


@dataclass(frozen=True)
class Bar:
    """A limit on `first` times the seconds to the first token and `token` times those between tokens."""

    prompt: float
    first: float
    token: float
    limit_s: float


@dataclass(frozen=True)
class Kind:
    """GPUs of a class in groups of one degree: bytes of one of them for weights and caches, and bytes in all of a
    layer, of its cache of a request, of the vocabulary's table, and of the logits."""

    cls: int
    tp: int
    budget: float
    weights: float
    cache: float
    table: float
    logits: float

    def ends(self, copies: int) -> float:
        """Bytes of a replica beyond its layers and their caches: tables for both ends, or one for both, and logits."""
        return copies * self.table + self.logits


@dataclass(frozen=True)
class Span:
    """Pipelines with `low` to `high` sequences in a micro-batch, and with `few` to `many` micro-batches."""

    low: float
    high: float
    few: int
    many: int

    @property
    def parts(self) -> tuple[Span, ...]:
        """This in up to nine parts, of fewer numbers of micro-batches and of sizes closer together."""
        return tuple(replace(part, few=f, many=m) for part in self._by_size for f, m in self._by_lanes)

    @property
    def _by_lanes(self) -> Iterator[tuple[int, int]]:
        ratio = (min(self.many, 4 * self.few) / self.few) ** (1 / 3)
        starts = sorted({self.few, *(math.ceil(self.few * ratio**k) for k in (1, 2))})
        ends = [*(start - 1 for start in starts[1:]), self.many]
        return ((f, m) for f, m in zip(starts, ends, strict=True) if f <= m)

    @property
    def _by_size(self) -> Iterator[Span]:
        parts = min(3, math.ceil(math.log(self.high / self.low) / math.log(FINE) - 1e-9))
        edges = self.low * (self.high / self.low) ** (np.arange(1, parts) / max(1, parts))
        ends = [self.low, *map(float, edges), self.high]
        return (replace(self, low=low, high=high) for low, high in pairwise(ends))


@dataclass(frozen=True)
class Fluid:
    """The kinds of a problem's GPUs, and what they take for requests; replicas may be counted in whole numbers."""

    problem: Problem
    pricer: Pricer
    whole: bool

    @cached_property
    def alike(self) -> dict[int, tuple[int, ...]]:
        """The classes of machines that are alike but for their links, by the first of each."""
        found: dict[object, list[int]] = {}
        for i, c in enumerate(self.problem.classes):
            key = (c.gpu, c.formats, c.usd_per_h, c.watts, c.degrees, self.problem.network.inside[c.name])
            found.setdefault(key, []).append(i)
        return {members[0]: tuple(members) for members in found.values()}

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self._kind(c, t) for c in self.alike for t in self.problem.classes[c].degrees)

    def _kind(self, c: int, tp: int) -> Kind:
        cls, arch = self.problem.classes[c], self.problem.arch
        cache = float(kv_values(arch)) * cls.formats.kv_bytes / float(kv_shards(arch, tp)) * tp
        weights = float(layer_params(arch).mean()) * cls.formats.weight_bytes
        engine = self.problem.engine
        working = float(activation_bytes(arch, cls.formats, Slice(0, 0, tp), engine))  # of a stage that is not the last
        return Kind(
            cls=c,
            tp=tp,
            budget=max(0.0, budget_bytes(cls.gpu, tp, engine) - working),
            weights=weights,
            cache=cache * self.problem.tokens_per_request,
            table=embedding_params(arch) * cls.formats.wide_bytes,
            logits=engine.max_batch * arch.vocab * 4.0,
        )

    @property
    def fewest(self) -> int:
        """Tables that a replica of one stage holds."""
        return 1 if self.problem.arch.tied else 2

    def spans(self, prompts: bool) -> tuple[Span, ...]:
        """All pipelines; their number of micro-batches matters where prompts come to them."""
        alone = [Span(1.0, 1.0, 1, 1)] if prompts else []
        lanes = LANES if prompts else ((2, ENDLESS),)
        return (*alone, *(span for few, many in lanes for span in self._sized(few, many)))

    def _sized(self, few: int, many: int) -> Iterator[Span]:
        top = max(1.0, self.problem.engine.max_batch / few)
        edges = np.append(COARSE ** np.arange(max(1, math.ceil(math.log(top) / math.log(COARSE)))), top)
        yield from (Span(float(a), float(b), few, many) for a, b in pairwise(edges))

    def decode(self, kind: Kind, sequences: float) -> float:
        """GPU-seconds of a layer for the answer of a request among so many sequences."""
        stage, load = self.pricer.stage(kind.cls, kind.tp), self.problem.load
        return kind.tp * float(stage.decode(sequences, load.context).total) / sequences * self.problem.output

    def prompt(self, kind: Kind) -> float:
        """GPU-seconds of a layer for the prompt of a request."""
        stage, load = self.pricer.stage(kind.cls, kind.tp), self.problem.load
        return kind.tp * float(stage.prefill(load.prompt, load.cv_prompt))

    def head(self, kind: Kind, sequences: float) -> float:
        """GPU-seconds of the output head for a request among so many sequences."""
        total = float(self.pricer.stage(kind.cls, kind.tp).head(sequences).total)
        return kind.tp * total / sequences * self.problem.output

    def alone(self, kind: Kind, prompt: float) -> float:
        """Seconds of a layer with a prompt alone."""
        return float(self.pricer.stage(kind.cls, kind.tp).alone(prompt))

    def bursts(self, span: Span) -> float:
        """The least factor on the time of prompts in a span: a step is as full of prompts as it can be there."""
        prompt, budget = self.problem.prompt, self.problem.engine.step_tokens
        low, high = span.low / self.problem.output, span.high / self.problem.output
        least = float(step_budget(2, span.low, low * prompt, budget)) + span.low - span.high
        return float(burst(span.few, span.low, high, prompt, max(least, span.low + 1.0)).prompts)

    def single(self, kind: Kind, prompts: bool, bars: Sequence[Bar]) -> float:
        """The most requests/s of a replica of one stage."""
        layers, engine = self.problem.arch.layers, self.problem.engine
        share = layers / kind.tp
        room = kind.budget - kind.ends(self.fewest) / kind.tp
        fits = math.floor((room / share - kind.weights) / kind.cache * (1 + 1e-9))
        running = np.arange(1.0, max(0, min(engine.max_batch, fits)) + 1)
        if not len(running):
            return 0.0
        step = self._step(kind, running, prompts)
        first = [layers * self.alone(kind, b.prompt) * b.first if prompts else 0.0 for b in bars]
        meets = [f + b.token * step <= b.limit_s for f, b in zip(first, bars, strict=True)]
        allowed = np.logical_and.reduce([np.ones(len(running), dtype=bool), *meets])
        return float(np.max(np.where(allowed, running / (self.problem.output * step), 0.0)))

    def _step(self, kind: Kind, running: Floats, prompts: bool) -> Floats:
        """Seconds between tokens of a replica of one stage."""
        stage, problem = self.pricer.stage(kind.cls, kind.tp), self.problem
        decode = np.asarray(stage.decode(running, problem.load.context).total)
        prompt = running / problem.output * self.prompt(kind) / kind.tp if prompts else 0.0
        return np.asarray(problem.arch.layers * (decode + prompt) + np.asarray(stage.head(running).total))


@dataclass
class Role:
    """What a role adds to a model: GPUs in use by class, requests/s, and replicas."""

    rates: list[Any] = field(default_factory=list)
    spans: dict[Span, Any] = field(default_factory=dict)
    """Requests/s of the pipelines of each span."""
    replicas: list[Any] = field(default_factory=list)
    gpus: dict[int, list[Any]] = field(default_factory=dict)

    @property
    def rate(self) -> Any:
        return quicksum(self.rates)

    def use(self, cls: int, gpus: Any) -> None:
        self.gpus.setdefault(cls, []).append(gpus)


@dataclass(frozen=True)
class Builder:
    """Adds roles to a model that has a list of constraints `rules`."""

    model: Any
    fluid: Fluid

    def decoding(self, name: str, prompts: bool, bars: Sequence[Bar], spans: Sequence[Span]) -> Role:
        """Replicas that decode, and compute prompts too or do not; `spans` covers all pipelines."""
        role = Role()
        self._single(name, role, prompts, bars)
        for k, span in enumerate(spans):
            self._span(f"{name}{k}", role, span, prompts, bars)
        return role

    def prefill(self, name: str, bars: Sequence[Bar]) -> Role:
        """Replicas that only compute prompts."""
        kinds, add = self.fluid.kinds, self.model.rules.add
        gpus, layers = (self._variables(f"{name}_{of}", range(len(kinds))) for of in ("gpus", "layers"))
        rate = self._variables(f"{name}_rate", [0])[0]
        replicas = self._counts(f"{name}_replicas", [0])[0]
        role = Role(rates=[rate], replicas=[replicas])
        for i, kind in enumerate(kinds):
            role.use(kind.cls, gpus[i])
            add(layers[i] * self.fluid.prompt(kind) <= gpus[i])
        add(quicksum(layers.values()) == self.fluid.problem.arch.layers * rate)
        self._memory(gpus, 0.0, replicas, self.fluid.fewest)
        for bar in (b for b in bars if b.first):
            first = quicksum(layers[i] * self.fluid.alone(kind, bar.prompt) for i, kind in enumerate(kinds))
            add(bar.first * first <= bar.limit_s * rate)
        return role

    def _single(self, name: str, role: Role, prompts: bool, bars: Sequence[Bar]) -> None:
        kinds = self.fluid.kinds
        count = self._counts(f"{name}_alone", range(len(kinds)))
        rate = self._variables(f"{name}_alone_rate", range(len(kinds)))
        for i, kind in enumerate(kinds):
            self.model.rules.add(rate[i] <= self.fluid.single(kind, prompts, bars) * count[i])
            role.use(kind.cls, kind.tp * count[i])
        role.rates += rate.values()
        role.replicas += count.values()

    def _span(self, name: str, role: Role, span: Span, prompts: bool, bars: Sequence[Bar]) -> None:
        fluid, kinds, add = self.fluid, self.fluid.kinds, self.model.rules.add
        gpus, layers, heads = (self._variables(f"{name}_{of}", range(len(kinds))) for of in ("gpus", "layers", "heads"))
        rate, running = (self._variables(f"{name}_{of}", [0])[0] for of in ("rate", "running"))
        replicas = self._counts(f"{name}_replicas", [0])[0]
        path, bursts = [], fluid.bursts(span) if prompts else 0.0
        for i, kind in enumerate(kinds):
            prompt = fluid.prompt(kind) if prompts else 0.0
            add(layers[i] * (bursts * prompt + fluid.decode(kind, span.high)) <= gpus[i])
            through = layers[i] * (prompt + fluid.decode(kind, span.low)) + heads[i] * fluid.head(kind, span.low)
            path.append(span.low / kind.tp * through)
            role.use(kind.cls, gpus[i])
        add(quicksum(layers.values()) == fluid.problem.arch.layers * rate)
        add(quicksum(heads.values()) == rate)
        add(quicksum(path) <= running)
        self._sizes(span, quicksum(gpus[i] / kind.tp for i, kind in enumerate(kinds)), running, replicas)
        self._memory(gpus, running, replicas, 2)
        for bar in bars:
            alone = (layers[i] * fluid.alone(kind, bar.prompt) for i, kind in enumerate(kinds))
            first = bar.first * quicksum(alone) if prompts else 0.0
            add(first + bar.token / fluid.problem.output * running <= bar.limit_s * rate)
        role.rates.append(rate)
        role.spans[span] = rate
        role.replicas.append(replicas)

    def _sizes(self, span: Span, depth: Any, running: Any, replicas: Any) -> None:
        """Stages and running requests of the replicas of a span."""
        add, most = self.model.rules.add, self.fluid.problem.engine.max_batch
        add(depth >= span.few * replicas)
        if span.low > 1:
            add(depth <= span.many * replicas)
            add(running >= span.few * span.low * replicas)
        add(running <= min(span.many * span.high, most) * replicas)

    def _memory(self, gpus: Any, running: Any, replicas: Any, copies: int) -> None:
        kinds, layers, add = self.fluid.kinds, self.fluid.problem.arch.layers, self.model.rules.add
        caches = quicksum(gpus[i] * (k.budget / k.cache) for i, k in enumerate(kinds))
        weights = quicksum(gpus[i] * (k.budget / k.weights) for i, k in enumerate(kinds))
        empty = layers * min(k.weights / k.cache for k in kinds) + min(k.ends(copies) / k.cache for k in kinds)
        whole = layers + min(k.ends(copies) / k.weights for k in kinds)
        add(caches >= layers * running + empty * replicas)
        add(weights >= whole * replicas + layers * min(k.cache / k.weights for k in kinds) * running)

    def _counts(self, name: str, over: Any) -> Any:
        return self._variables(name, over, NonNegativeIntegers if self.fluid.whole else NonNegativeReals)

    def _variables(self, name: str, over: Any, domain: Any = NonNegativeReals) -> Any:
        setattr(self.model, name, Var(over, domain=domain))
        return getattr(self.model, name)
