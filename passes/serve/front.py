"""The frontier of cost, throughput and latency: the planner asked again and again, under limits on the other axes.

Epsilon constraints (Haimes, Lasdon and Wismer 1971): the best plan for each axis alone, then evenly spaced limits on
one or two axes between these extremes while another is optimised.  The user's own rules hold at every point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle, groupby, islice

from hexdsl.ir.diagnostic import LimitError, NoPlanError, Span
from hexdsl.ir.front import Axis, Front, FrontPoint, alike, dominates
from hexdsl.ir.plan import Margin, Plan, Replica
from hexdsl.ir.spec.rule import Compare, Metric, Number, Objective, Rule, metrics_in
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.goals import Aim, aims_of, serves_all
from hexdsl.passes.serve.limits import shown
from hexdsl.passes.serve.margins import held_by_simulation
from hexdsl.passes.serve.metrics import LATENCIES
from hexdsl.passes.serve.predict import Figures, views_of
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.rules import written_rules
from hexdsl.passes.serve.simulate import simulate

Planner = Callable[[Serve, tuple[Margin, ...]], Plan]
"""The plan of a changed workflow, before anything is simulated.  Raises NoPlanError or LimitError."""

Tell = Callable[[str], None]

USUAL = Metric(name="tpot", stat="p95")
"""The latency that is shown where the spec names none."""

NOWHERE = Span("", 0, 0)
SCALES = {"$": Fraction(1, 3600), "ms": Fraction(1, 1000), "s": Fraction(1)}
SOMETHING = 0.05
"""Share of the most throughput that every plan has where phases may lie apart and requests may be turned away: the
cheapest replica of all does one phase, and serves nobody."""

COST, RATE, WAIT = range(3)
"""The axes by number: cost or GPUs in use, throughput, latency."""

ROUNDS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (WAIT, (COST,)),
    (RATE, (COST,)),
    (RATE, (WAIT,)),
    (RATE, (COST, WAIT)),
)
"""Which axis is optimised under limits on which others."""


def front(plan: Plan, planner: Planner, points: int, tell: Tell = lambda _: None) -> Front:
    """The frontier of the workflow of an empty plan, from at most `points` searches besides failed ones.

    Raises NoPlanError as the planner does where there is no plan at all, or none holds in its simulation.
    """
    serve = plan.workflow
    assert isinstance(serve, Serve)
    search = Search(serve, problem_of(plan), planner, tell)
    kept, lost = _settled(search, points)
    own = search.own()
    points_of = kept if any(alike(search.axes, f.values, own.values) for f in kept) else [*kept, own]
    return Front(
        hexc_version=plan.hexc_version,
        spec_digest=plan.spec_digest,
        name=plan.name,
        axes=search.axes,
        points=tuple(_point(f, search, own) for f in sorted(points_of, key=lambda f: (f.values, f.asked.lines))),
        searches=search.searches,
        notes=tuple(f"left out, since every plan breaks a rule in the simulation: {lines}" for lines in lost),
    )


def _settled(search: Search, points: int) -> tuple[list[Found], list[str]]:
    """The frontier of plans that hold in their simulation; where none serves all arrivals, some may serve a part."""
    try:
        return _held(explored(search, points), search)
    except NoPlanError:
        if not (search.everyone and search.may_turn_away()):
            raise
    search.everyone = False
    return _held(explored(search, points), search)


def explored(search: Search, points: int) -> list[Found]:
    """The frontier before anything is simulated: the extremes first.  Raises NoPlanError where there is no plan."""
    found = search.extremes()
    for question in search.between(found, points - len(found)):
        found += search.tried(question)
    return undominated(search.axes, found)


@dataclass(frozen=True)
class Asked:
    """A question to the planner: rules beside the user's own, and objectives in place of them."""

    optimised: int
    rules: tuple[Rule, ...]
    objectives: tuple[Objective, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return (*(r.text for r in self.rules), *(o.text for o in self.objectives))

    def of(self, serve: Serve) -> Serve:
        """The workflow that asks it."""
        return serve.with_(rules=(*serve.rules, *self.rules), objectives=self.objectives)


@dataclass(frozen=True)
class Found:
    """A question with its plan, and what that comes to on each axis."""

    asked: Asked
    plan: Plan
    values: tuple[float, ...]


@dataclass
class Search:
    """The planner with a workflow, and how often it was asked."""

    serve: Serve
    problem: Problem
    planner: Planner
    tell: Tell
    searches: int = 0
    floor: tuple[Rule, ...] = ()
    everyone: bool = field(init=False)
    """Whether all arrivals must be served, as an objective that is not about how many are asks."""

    def __post_init__(self) -> None:
        self.metric = latency_of(self.serve)
        self.axes = axes_of(self.problem, self.metric)
        self.everyone = self.problem.arrivals is not None

    def extremes(self) -> list[Found]:
        """The best plans for each axis.  Raises NoPlanError where there is no plan."""
        if self.everyone:
            try:
                return [self.found(self.asked(axis)) for axis in (COST, RATE, WAIT)]
            except NoPlanError:
                if not self.may_turn_away():
                    raise
            self.everyone = False
        most = self.found(self.asked(RATE))
        self.floor = (at_least(SOMETHING * most.values[RATE]),) if self.problem.phased else ()
        return [self.found(self.asked(COST)), most, self.found(self.asked(WAIT))]

    def own(self) -> Found:
        """The plan of the spec as it is."""
        aim = aims_of(self.serve, self.problem)[0]
        named = {aim.metric} if aim.metric is not None else set(aim.linear.weights) if aim.linear is not None else set()
        axis = next((i for i, a in enumerate(self.axes) if named in ({a.name}, {self._metric(i)})), RATE)
        asked = Asked(axis, (), self.serve.objectives)
        return self.simulated(Found(asked, self._plan(self.serve), ()))

    def may_turn_away(self) -> bool:
        """Whether the user's objectives let a plan serve a part of the load; then a plan of the spec must exist."""
        if self.problem.arrivals is None or serves_all(aims_of(self.serve, self.problem), self.problem):
            return False
        self._plan(self.serve)
        return True

    def asked(self, optimised: int, *rules: Rule) -> Asked:
        """The best on one axis; the planner breaks ties by cost or GPUs.

        Where requests may be turned away, throughput comes second, or the smallest replica would always do.
        """
        goals = (optimised,) if self.everyone or optimised == RATE else (optimised, RATE)
        return Asked(optimised, (*self.floor, *rules), tuple(self._objective(i) for i in goals))

    def _objective(self, axis: int) -> Objective:
        a = self.axes[axis]
        return Objective(sense=a.sense, expr=self._metric(axis), text=a.goal, span=NOWHERE)

    def _metric(self, axis: int) -> Metric:
        return self.metric if axis == WAIT else Metric(name=self.axes[axis].name)

    def limit(self, axis: int, value: float) -> Rule:
        """`cost <= $12.40/h`, rounded up."""
        text, number = written(value, self.axes[axis].unit)
        expr = Compare(op="<=", left=self._metric(axis), right=number)
        return Rule(expr=expr, text=f"{self.axes[axis].name} <= {text}", span=NOWHERE)

    def between(self, extremes: Sequence[Found], count: int) -> Iterator[Asked]:
        """At most `count` questions with evenly spaced limits between the extremes, each once."""
        rounds = [
            (best, limited) for best, limited in ROUNDS if all(_apart(self._ends(extremes, best, i)) for i in limited)
        ]
        turns = Counter(islice(cycle(range(len(rounds))), max(0, count)) if rounds else ())
        asked: dict[tuple[str, ...], Asked] = {}
        for (best, limited), steps in ((rounds[i], n) for i, n in sorted(turns.items())):
            for step in range(1, steps + 1):
                made = self.asked(best, *self._limits(extremes, best, limited, Fraction(step, steps + 1)))
                asked.setdefault(made.lines, made)
        yield from asked.values()

    def _limits(self, extremes: Sequence[Found], best: int, limited: tuple[int, ...], share: Fraction) -> list[Rule]:
        """Limits so far between the extremes; of two, one is loosened as the other is tightened."""
        shares = (share, 1 - share)
        ends = (self._ends(extremes, best, axis) for axis in limited)
        places = (low + float(s) * (high - low) for (low, high), s in zip(ends, shares, strict=False))
        return [self.limit(axis, value) for axis, value in zip(limited, places, strict=True)]

    def _ends(self, extremes: Sequence[Found], best: int, axis: int) -> tuple[float, float]:
        """An axis from its own extreme to where the one that is optimised has its."""
        return extremes[axis].values[axis], extremes[best].values[axis]

    def tried(self, asked: Asked) -> list[Found]:
        """The plan that answers, if there is one that serves all who must be served."""
        try:
            made = self.found(asked)
        except (NoPlanError, LimitError):
            return []
        arrivals = self.problem.arrivals or 0.0
        return [made] if not self.everyone or made.plan.served_req_per_s >= arrivals * (1 - 1e-6) else []

    def found(self, asked: Asked) -> Found:
        """The plan that answers."""
        return self.measured(asked, self._plan(asked.of(self.serve)))

    def _plan(self, serve: Serve) -> Plan:
        self.searches += 1
        self.tell(f"pareto: search {self.searches}")
        return self.planner(serve, ())

    def simulated(self, found: Found) -> Found:
        """The same, with margins where its simulation breaks a rule.  Raises NoPlanError where none holds."""
        serve = found.asked.of(self.serve)
        self.tell(f"pareto: simulating {', '.join(found.asked.lines)}")
        made = held_by_simulation(lambda margins: simulate(self.planner(serve, margins) if margins else found.plan))
        return self.measured(found.asked, made)

    def measured(self, asked: Asked, plan: Plan) -> Found:
        figures = Figures(plan, views_of(plan, self.problem), self.problem)
        cost, rate = (figures.value(self._metric(axis), "", figures.views[0], 1) for axis in (COST, RATE))
        scale = 3600 if self.axes[COST].name == "cost" else 1
        return Found(asked, plan, (cost * scale, rate, latency_value(figures, self.metric)))


def latency_of(serve: Serve) -> Metric:
    """The first latency that the rules name, or the objectives; else p95(tpot)."""
    asked: tuple[Rule | Objective, ...] = (*written_rules(serve), *serve.objectives)
    return next((m for x in asked for m in metrics_in(x.expr) if m.name in LATENCIES), USUAL)


def axes_of(problem: Problem, metric: Metric) -> tuple[Axis, ...]:
    """Cost (GPUs in use, where prices are not known or all zero), throughput and a latency."""
    prices = [c.usd_per_h for c in problem.classes]
    priced = None not in prices and any(prices)
    first = Axis(name="cost", sense="minimize", unit="usd/h") if priced else Axis(name="devices", sense="minimize")
    rate = Axis(name="throughput", sense="maximize", unit="tok/s")
    return first, rate, Axis(name=str(metric), sense="minimize", unit="s")


def latency_value(figures: Figures, metric: Metric) -> float:
    """A latency as the planner judges it as an objective: a mean over all requests, else that of the worst replica."""
    values: list[tuple[float, float]] = [
        (float(v.latency.value(metric)), v.replica.rate_req_per_s) for v in figures.views
    ]
    if Aim("", "minimize", metric=metric).is_mean(figures.problem):
        return sum(value * load for value, load in values) / figures.plan.served_req_per_s
    return max(value for value, _ in values)


def written(value: float, unit: str) -> tuple[str, Number]:
    """A limit in the words of the language, rounded up, and just what these words mean."""
    if not unit:
        text = str(int(value))
        return text, Number(value=float(text))
    base, inside = ("usd/s", value / 3600) if unit == "usd/h" else (unit, value)
    text = shown(inside, base)
    scale = next(s for mark, s in SCALES.items() if mark in text)
    figure = Fraction(text.strip("$").removesuffix("/h").rstrip("ms"))
    return text, Number(value=float(figure * scale), unit=base)


def at_least(tokens: float) -> Rule:
    """`throughput >= 120tok/s`, in whole tokens."""
    limit = Number(value=float(max(1, int(tokens))), unit="tok/s")
    expr = Compare(op=">=", left=Metric(name="throughput"), right=limit)
    return Rule(expr=expr, text=f"throughput >= {limit.value:.0f}tok/s", span=NOWHERE)


def undominated(axes: tuple[Axis, ...], found: Iterable[Found]) -> list[Found]:
    """Those that no other dominates; of those that come to the same the first."""
    distinct: list[Found] = []
    for f in found:
        if not any(alike(axes, f.values, other.values) for other in distinct):
            distinct.append(f)
    return [f for f in distinct if not any(dominates(axes, other.values, f.values) for other in distinct)]


def _held(found: Sequence[Found], search: Search) -> tuple[list[Found], list[str]]:
    """The points whose plans hold in their simulation, and the lines of those that do not.

    Raises the first refusal where none holds.
    """
    kept, lost = list[Found](), dict[str, NoPlanError]()
    for point in found:
        try:
            kept.append(search.simulated(point))
        except NoPlanError as error:
            lost["; ".join(point.asked.lines)] = error
    if not kept:
        raise next(iter(lost.values()))
    return undominated(search.axes, kept), list(lost)


def _point(found: Found, search: Search, own: Found) -> FrontPoint:
    return FrontPoint(
        lines=found.asked.lines,
        values=found.values,
        simulated=tuple(_simulated(found.plan, axis, search) for axis in search.axes),
        optimised=search.axes[found.asked.optimised].name,
        bound=_bound(found.plan, search.axes[found.asked.optimised]),
        gpus=sum(len(r.devices) for r in found.plan.replicas),
        replicas=tuple(f"{count} x {words}" for words, count in Counter(map(_words, found.plan.replicas)).items()),
        plan=found.plan.digest(),
        own=alike(search.axes, found.values, own.values),
    )


def _simulated(plan: Plan, axis: Axis, search: Search) -> float | None:
    """What the simulation came to; a throughput under arrivals is that of the arrivals, and tells nothing."""
    if plan.simulation is None or (axis.name == "throughput" and search.problem.arrivals is not None):
        return None
    return next((f.mean for f in plan.simulation.figures if f.metric == axis.name), None)


def _bound(plan: Plan, axis: Axis) -> float | None:
    """What no plan beats in the first objective, in the unit of its axis; None where nothing is known."""
    proof = next(c for c in plan.certificates if c.of == "groups")
    if proof.goal != axis.goal or (proof.gap >= 1 and proof.bound == proof.objective):
        return None
    return proof.bound * 3600 if proof.unit == "usd/s" else proof.bound


def _words(replica: Replica) -> str:
    """`8 H100 TP 8`, `8 A100 TP 4 PP 2 + 1 H100`, and the phase where it is one only."""
    runs = [(gpu, tp, len(list(run))) for (gpu, tp), run in groupby(replica.stages, key=lambda s: (s.gpu, s.tp))]
    parts = (f"{tp * n} {gpu}" + (f" TP {tp}" if tp > 1 else "") + (f" PP {n}" if n > 1 else "") for gpu, tp, n in runs)
    return " + ".join(parts) + ("" if replica.role == "both" else f" ({replica.role})")


def _apart(ends: tuple[float, float]) -> bool:
    low, high = ends
    return high - low > 1e-6 * abs(high)
