"""Why there is no plan: the model does not fit, or the user's lines that cannot hold together and how near they are."""

from __future__ import annotations

from collections.abc import Sequence

from hexdsl.costs.memory import Slice, budget_bytes, weight_bytes
from hexdsl.ir.diagnostic import Diagnostic, Label, LimitError, NoPlanError
from hexdsl.ir.spec.rule import Compare, Metric, Number, Rule
from hexdsl.passes.serve.candidates import Candidate, Space, worthwhile
from hexdsl.passes.serve.choose import Programme, programme
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.rules import Rules, Total
from hexdsl.solve import Limits, Solution, conflict, maximize, minimize, solve
from hexdsl.solve import Objective as Goal

LIMITS = Limits(max_nodes=2_000, rel_gap=1e-3, time_s=20)
LOAD = "arrivals"
"""Name of the load among the lines that conflict: it stands in the workload, not in a rule."""

GB = 1e9


def explain_misfit(problem: Problem) -> NoPlanError:
    """The model is larger than what its GPUs can hold together."""
    whole = Slice(0, problem.arch.layers)
    need = min(float(weight_bytes(problem.arch, c.formats, whole)) for c in problem.classes)
    room = sum(max(0.0, budget_bytes(c.gpu, 1, problem.engine)) * c.count * c.size for c in problem.classes)
    model, cluster = problem.serve.model.name, problem.serve.on.name
    message = (
        f"`{model}` does not fit on `{cluster}`: its weights take {need / GB:.1f} GB, "
        f"and all GPUs together leave {room / GB:.1f} GB for weights and KV cache"
    )
    help_ = "add machines, or choose a smaller format such as `weights = int4(group = 128)`"
    if need < room:
        help_ = "the GPUs that could hold it are not joined by links, or a request of the full `context` does not fit beside it"
    return NoPlanError([Diagnostic("P002", message, (), help_)])


def explain_limit(solution: Solution) -> LimitError:
    """The search ended before it found any plan."""
    message = f"the search ended after {solution.nodes} nodes without a plan"
    return LimitError([Diagnostic("P006", message, (), "remove a rule, or plan for fewer machines")])


def explain_no_plan(space: Space, rules: Rules, serve_all: bool) -> NoPlanError:
    """The smallest set of the user's lines that cannot hold together, with how far each is from holding."""
    made = _with_all(space, rules, serve_all)
    guilty = conflict(made.model, made.rules, LIMITS)
    blamed = [r for r in _all_rules(rules) if r.text in guilty]
    if not blamed:
        return _load_alone(space)
    helps = [h for rule in blamed if (h := _nearest(space, rules, rule, serve_all)) is not None]
    labels = tuple(Label(r.span) for r in blamed)
    count = "this line" if len(blamed) == 1 else f"these {len(blamed)} lines together"
    also = ()
    if LOAD in guilty:
        also = (f"{space.problem.arrivals:g}req/s arrive, and all of them must be served",)
    return NoPlanError([Diagnostic("P001", f"no plan meets {count}", labels, "; ".join(helps) or None, notes=also)])


def _all_rules(rules: Rules) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys((*rules.shape, *rules.point, *(t.rule for t in rules.total))))


def _load_alone(space: Space) -> NoPlanError:
    made = programme(space, _front(space.candidates, [()] * len(space.candidates)), (), False, {})
    most = _best(made, made.total("goodput"), maximize)
    message = f"{space.problem.arrivals or 0:g}req/s arrive, but these machines serve at most {most or 0:.3g}req/s"
    return NoPlanError([Diagnostic("P001", message, (), "add machines, or lower the arrivals")])


def _with_all(space: Space, rules: Rules, serve_all: bool) -> Programme:
    """The programme in which every rule is a group of constraints, so that each can be dropped."""
    filters = (*rules.shape, *rules.point)
    flags = [tuple(space.holds(rule, c) for rule in filters) for c in space.candidates]
    kept = worthwhile(space.candidates, flags)
    barred = {rule: [k for k, i in enumerate(kept) if not flags[i][j]] for j, rule in enumerate(filters)}
    made = programme(space, [space.candidates[i] for i in kept], rules.total, serve_all, barred)
    if serve_all:
        made.rules[LOAD] = [made.model.all_served]
    return made


def _front(candidates: Sequence[Candidate], flags: Sequence[tuple[bool, ...]]) -> list[Candidate]:
    return [candidates[i] for i in worthwhile(candidates, flags)]


def _nearest(space: Space, rules: Rules, rule: Rule, serve_all: bool) -> str | None:
    """The limit at which one rule would hold beside all others, in words."""
    others = Rules(
        tuple(r for r in rules.shape if r != rule),
        tuple(r for r in rules.point if r != rule),
        tuple(t for t in rules.total if t.rule != rule),
    )
    if rule in rules.shape:
        return None
    filters = (*others.shape, *others.point)
    good = [c for c in space.candidates if all(space.holds(r, c) for r in filters)]
    if not good:
        return None
    if rule in rules.point:
        return _nearest_latency(space, good, others, rule, serve_all)
    return _nearest_total(space, good, others, next(t for t in rules.total if t.rule == rule), serve_all)


def _nearest_total(space: Space, good: list[Candidate], others: Rules, total: Total, serve_all: bool) -> str | None:
    """Optimises the rule's own side with the others hard."""
    made = programme(space, _front(good, [()] * len(good)), others.total, serve_all, {})
    sense = maximize if total.op == ">=" else minimize
    best = _best(made, made.linear(total.linear), sense)
    limit = _constant(total.rule)
    if best is None or limit is None:
        return None
    return f"`{total.rule.text}` could hold at {limit.with_value(limit.value + best)}"


def _best(made: Programme, expression: object, sense: object) -> float | None:
    made.model.goal = Goal(expr=expression, sense=sense)
    return solve(made.model, LIMITS).objective


def _nearest_latency(space: Space, good: list[Candidate], others: Rules, rule: Rule, serve_all: bool) -> str | None:
    """The least limit on one latency at which a plan exists, by bisection over the candidates' own values."""
    limit = _constant(rule)
    if limit is None or limit.metric not in space.named:
        return None
    j = space.named.index(limit.metric)
    values = sorted({c.metrics[j] for c in good if c.metrics[j] < float("inf")})
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        some = [c for c in good if c.metrics[j] <= values[middle]]
        made = programme(space, _front(some, [()] * len(some)), others.total, serve_all, {})
        found = _best(made, made.total("devices"), minimize) is not None
        low, high = (low, middle) if found else (middle + 1, high)
    return None if low == len(values) else f"`{rule.text}` could hold at {limit.with_value(values[low])}"


class _Limit:
    """The constant of a rule `metric op constant`, so that another value can be said in the same unit."""

    def __init__(self, metric: Metric, number: Number) -> None:
        self.metric, self.value, self.unit = metric, number.value, number.unit

    def with_value(self, value: float) -> str:
        scale, unit = {"s": (1e3, "ms"), "usd/s": (3600.0, "$/h")}.get(self.unit, (1.0, self.unit))
        if unit == "$/h":
            return f"${value * scale:.4g}/h"
        return f"{value * scale:.4g}{unit}"


def _constant(rule: Rule) -> _Limit | None:
    expr = rule.expr
    if not isinstance(expr, Compare) or not isinstance(expr.left, Metric) or not isinstance(expr.right, Number):
        return None
    return _Limit(expr.left, expr.right)
