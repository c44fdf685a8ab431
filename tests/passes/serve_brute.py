"""Every plan of a small spec, one by one: no shape, order, split or batch is left out, and no planner code is used.

Only the conversion of a spec into the cost model's nouns (`adapter`) and the parsed rules' evaluation are shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise, permutations, product
from statistics import NormalDist

from hexdsl.costs.arch import tp_divides
from hexdsl.costs.gpu import Link
from hexdsl.costs.memory import Slice, free_kv_bytes, kv_token_bytes
from hexdsl.costs.predict import tpot_band
from hexdsl.costs.serving import Pipeline, seat_wait
from hexdsl.costs.stage import stage_cost
from hexdsl.ir.spec.rule import Compare, Metric, Rule, holds, metrics_in
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.adapter import arch_of, arrivals_of, engine_of, formats_of, gpu_of, load_of, network_of
from hexdsl.passes.serve.problem import context_of

LATENCIES = ("ttft", "tpot", "latency")
Use = tuple[tuple[int, int], ...]
"""What a replica takes: machine, by number, and GPUs there."""


@dataclass(frozen=True)
class Option:
    """A replica: what it delivers at its most, and its latencies there."""

    rate: float
    metrics: tuple[float, ...]


class Brute:
    """The plans of a `serve` block with few GPUs."""

    def __init__(self, serve: Serve) -> None:
        self.serve, self.arch, self.engine = serve, arch_of(serve.model), engine_of(serve)
        self.load, self.arrivals, self.network = load_of(serve), arrivals_of(serve), network_of(serve.on)
        self.machines = [n for n in serve.on.nodes for _ in range(n.count)]
        self.context = context_of(serve)
        self.rules = serve.rules
        named = (m for e in (*serve.rules, *serve.objectives) for m in metrics_in(e.expr) if m.name in LATENCIES)
        self.named = tuple(dict.fromkeys(named))
        self._options: dict[tuple[tuple[str, int], ...], list[Option]] = {}

    # --- one replica ---

    def options(self, use: Use) -> list[Option]:
        """Every replica on these GPUs that meets the rules about replicas, but those that another beats."""
        key = tuple(sorted((self.machines[m].name, n) for m, n in use))
        if key not in self._options:
            self._options[key] = _front([o for stages in self._orders(use) for o in self._of(stages)])
        return self._options[key]

    def _orders(self, use: Use) -> set[tuple[tuple[int, int], ...]]:
        """Stages as (machine, tp), in every order."""
        ways = [
            [[(m, t) for t in cut] for cut in _partitions(n, n) if all(tp_divides(self.arch, t) for t in cut)]
            for m, n in use
        ]
        return {order for way in product(*ways) for order in permutations([s for part in way for s in part])}

    def _of(self, stages: tuple[tuple[int, int], ...]) -> Iterator[Option]:
        hops = [self._hop(a, b) for (a, _), (b, _) in pairwise(stages)]
        if None in hops or len(stages) > self.arch.layers:
            return
        degrees = {t for _, t in stages}
        shape_rules = [r for r in self.rules if {m.name for m in metrics_in(r.expr)} <= {"tp", "pp"}]
        if not all(
            holds(r.expr, lambda m, t=t: float(t if m.name == "tp" else len(stages)))
            for r in shape_rules
            for t in degrees
        ):
            return
        for cuts in combinations(range(1, self.arch.layers), len(stages) - 1):
            yield from self._split(stages, (0, *cuts, self.arch.layers), [h for h in hops if h is not None])

    def _hop(self, a: int, b: int) -> Link | None:
        left, right = self.machines[a].name, self.machines[b].name
        return (self.network.inside[left] or Link(16e9)) if a == b else self.network.link(left, right)

    def _split(
        self, stages: tuple[tuple[int, int], ...], bounds: tuple[int, ...], hops: list[Link]
    ) -> Iterator[Option]:
        rooms, costs = [], []
        for (m, t), (start, stop) in zip(stages, pairwise(bounds), strict=True):
            gpu, formats = gpu_of(self.machines[m].gpus.gpu), formats_of(self.machines[m].gpus.gpu, self.serve.model)
            part = Slice(start, stop, t)
            free = float(free_kv_bytes(gpu, self.arch, formats, part, self.engine))
            rooms.append(free / float(kv_token_bytes(self.arch, formats, part)))
            costs.append(stage_cost((gpu,) * t, self.network.inside[self.machines[m].name], self.arch, formats))
        line = Pipeline(tuple(costs), tuple(b - a for a, b in pairwise(bounds)), tuple(hops))
        for batch in range(1, self.engine.max_batch + 1):
            whole = float(self.load.prompt) + float(self.load.output)
            request = min(max(whole, float(self.load.context)), self.context)
            tokens = math.ceil(max(batch * request, self.context) / 16) * 16
            if tokens > min(rooms) * (1 + 1e-12):
                return
            yield from self._point(line, batch, min(rooms))

    def _point(self, line: Pipeline, batch: int, room: float) -> Iterator[Option]:
        rate = float(line.rate(batch, self.load))
        values = {m: self._latency(line, batch, rate, m, self._seats(batch, room)) for m in self.named}
        rules = [r for r in self.rules if {m.name for m in metrics_in(r.expr)} <= set(LATENCIES)]
        if all(holds(r.expr, values.__getitem__) for r in rules) and all(math.isfinite(values[m]) for m in self.wanted):
            yield Option(rate, tuple(values[m] for m in self.wanted))

    @cached_property
    def wanted(self) -> tuple[Metric, ...]:
        """The latencies that objectives name."""
        return tuple(m for o in self.serve.objectives for m in metrics_in(o.expr) if m.name in LATENCIES)

    def _seats(self, batch: int, room: float) -> int:
        """What the KV cache and the engine hold, at most six square roots more than run on average."""
        whole = min(max(float(self.load.prompt) + float(self.load.output), float(self.load.context)), self.context)
        return max(batch, min(batch + math.ceil(6 * math.sqrt(batch)), self.engine.max_batch, int(room // whole)))

    def _latency(self, line: Pipeline, batch: int, rate: float, metric: Metric, seats: int) -> float:
        tail = metric.stat == "max" or (metric.stat[:1] == "p" and int(metric.stat[1:]) >= 90)
        step = float(line.tpot(batch, self.load))
        slow = step * (1 + tpot_band(line)) if tail else step
        prompt, output = self._length("prompt", metric.stat), self._length("output", metric.stat)
        _, mean, high = (
            float(x) for x in line.ttft(batch, self.load, rate if self.arrivals is not None else None, waits=4.0)
        )
        longer = float(line.first_token(prompt)) - float(line.first_token(self.load.prompt))
        running = rate * float(self.load.output) * step
        waits = (4.0 if tail else 1.0) * float(seat_wait(running, seats, rate, self.load)) if self.arrivals else 0.0
        ttft = max(0.0, (high if tail else mean) + longer + waits)
        return {"ttft": ttft, "tpot": slow, "latency": ttft + slow * max(0.0, output - 1)}[metric.name]

    def _length(self, which: str, stat: str) -> float:
        assert self.serve.workload is not None
        length = getattr(self.serve.workload, which)
        if stat in ("", "mean"):
            return float(length.mean)
        return float(length.quantile(3.09 if stat == "max" else NormalDist().inv_cdf(int(stat[1:]) / 100)))

    # --- sets of replicas ---

    @cached_property
    def families(self) -> list[tuple[Use, ...]]:
        """Every set of replicas on different GPUs that meets the rules about totals that do not hang on rates."""
        found: dict[tuple[object, ...], tuple[Use, ...]] = {}
        for family in self._families(tuple(n.gpus.count for n in self.machines), ()):
            key = tuple(sorted(tuple(sorted((self.machines[m].name, n) for m, n in use)) for use in family))
            found.setdefault(key, family)
        return [f for f in found.values() if f]

    def _families(self, free: tuple[int, ...], chosen: tuple[Use, ...]) -> Iterator[tuple[Use, ...]]:
        yield chosen
        for take in product(*(range(n + 1) for n in free)):
            use = tuple((m, n) for m, n in enumerate(take) if n)
            if use and (not chosen or use <= chosen[-1]) and self.options(use):
                yield from self._families(tuple(f - t for f, t in zip(free, take, strict=True)), (*chosen, use))

    def totals_hold(self, family: tuple[Use, ...], rate: float) -> bool:
        """Whether the rules over totals hold for replicas that together deliver so many requests a second."""
        served = rate if self.arrivals is None else min(rate, self.arrivals)
        values = {
            "cost": self.cost(family), "devices": float(sum(n for use in family for _, n in use)),
            "replicas": float(len(family)), "goodput": served,
        }  # fmt: skip

        def value(rule: Rule) -> Callable[[Metric], float]:
            per_request = isinstance(rule.expr, Compare) and getattr(rule.expr.right, "unit", "") == "req/s"
            tokens = 1.0 if per_request else float(self.load.output)
            return lambda m: rate * tokens if m.name == "throughput" else values[m.name]

        own = {"tp", "pp", *LATENCIES}
        rules = [r for r in self.rules if not {m.name for m in metrics_in(r.expr)} <= own]
        return all(holds(r.expr, value(r)) for r in rules)

    def cost(self, family: tuple[Use, ...]) -> float:
        """Dollars per second."""
        return sum((self.machines[m].price or 0.0) * n for use in family for m, n in use)

    # --- objectives ---

    def most_rate(self) -> float | None:
        """The most requests/s, at most the arrivals; None where no plan meets the rules."""
        return self._best(lambda family, rate: rate if self.arrivals is None else min(rate, self.arrivals), max)

    def most_throughput(self) -> float | None:
        return self._best(lambda family, rate: rate, max)

    def least_cost(self) -> float | None:
        """The least cost at which all arrivals are served."""
        assert self.arrivals is not None
        enough = self.arrivals * (1 - 1e-9)
        return self._best(lambda family, rate: self.cost(family) if rate >= enough else None, min)

    def fewest_devices_then_throughput(self) -> tuple[int, float] | None:
        """The fewest GPUs of any plan, and the most requests/s that so many deliver."""
        plans = [(f, sum(max(o.rate for o in self.options(use)) for use in f)) for f in self.families]
        found = [(sum(n for use in f for _, n in use), -rate) for f, rate in plans if self.totals_hold(f, rate)]
        return (min(found)[0], -min(found)[1]) if found else None

    def least_worst(self) -> float | None:
        """The least value of the objective's latency that every replica meets, with all arrivals served."""
        values = sorted({o.metrics[0] for family in self.families for use in family for o in self.options(use)})
        return next((v for v in values if self._possible(v)), None)

    def _possible(self, limit: float) -> bool:
        for family in self.families:
            rates = [max((o.rate for o in self.options(u) if o.metrics[0] <= limit), default=0.0) for u in family]
            if (
                min(rates) > 0
                and sum(rates) >= (self.arrivals or 0.0) * (1 - 1e-9)
                and self.totals_hold(family, sum(rates))
            ):
                return True
        return False

    def least_mean(self) -> float | None:
        """The least mean of the objective's latency over all arrivals: the quickest replicas are filled first."""
        assert self.arrivals is not None
        best: float | None = None
        for family in self.families:
            for chosen in product(*(self.options(use) for use in family)):
                rate = sum(o.rate for o in chosen)
                if rate < self.arrivals * (1 - 1e-9) or not self.totals_hold(family, rate):
                    continue
                left, total = self.arrivals, 0.0
                for option in sorted(chosen, key=lambda o: o.metrics[0]):
                    part = min(left, option.rate)
                    left, total = left - part, total + part * option.metrics[0]
                best = total / self.arrivals if best is None else min(best, total / self.arrivals)
        return best

    def _best(
        self, value: Callable[[tuple[Use, ...], float], float | None], pick: Callable[[list[float]], float]
    ) -> float | None:
        found = []
        for family in self.families:
            rate = sum(max(o.rate for o in self.options(use)) for use in family)
            if self.totals_hold(family, rate) and (v := value(family, rate)) is not None:
                found.append(v)
        return pick(found) if found else None


def _front(options: list[Option]) -> list[Option]:
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (-o.rate, o.metrics)):
        if not any(all(a <= b for a, b in zip(k.metrics, option.metrics, strict=True)) for k in kept):
            kept.append(option)
    return kept


def _partitions(size: int, most: int) -> Iterator[tuple[int, ...]]:
    if size == 0:
        yield ()
    for part in range(min(size, most), 0, -1):
        yield from ((part, *rest) for rest in _partitions(size - part, part))
