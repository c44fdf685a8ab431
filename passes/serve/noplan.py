"""Why there is no plan: the model does not fit, or the user's lines that cannot hold together and how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hexdsl.costs.memory import Slice, budget_bytes, weight_bytes
from hexdsl.ir.diagnostic import Diagnostic, Label, LimitError, NoPlanError
from hexdsl.ir.spec.rule import Rule
from hexdsl.passes.serve.candidates import Choice, worthwhile
from hexdsl.passes.serve.choose import Programme, programme
from hexdsl.passes.serve.limits import Limit, limit_of, shown
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.question import Question
from hexdsl.passes.serve.rules import SPARE, Linear, Rules
from hexdsl.solve import Limits, Solution, conflict, maximize, minimize

LIMITS = Limits(max_nodes=5_000, rel_gap=1e-4, time_s=20)
LOAD = "arrivals"
"""Name of the load among the lines that conflict: it stands in the workload, not in a rule."""

GB = 1e9


def explain_misfit(problem: Problem) -> NoPlanError:
    """No replica can be made of these machines."""
    whole = Slice(0, problem.arch.layers)
    need = min(float(weight_bytes(problem.arch, c.formats, whole)) for c in problem.classes)
    room = sum(max(0.0, budget_bytes(c.gpu, 1, problem.engine)) * c.count * c.size for c in problem.classes)
    model, cluster = problem.serve.model.name, problem.serve.on.name
    message = (
        f"`{model}` does not fit on `{cluster}`: its weights take {need / GB:.3g} GB, and all GPUs together "
        f"leave {room / GB:.3g} GB for weights, activations and KV cache"
    )
    help_ = "add machines, or choose a smaller format such as `weights = int4(group = 128)`"
    if need < room:
        help_ = (
            f"weights alone would fit, but not with buffers and the KV cache of a request of {problem.context} tokens "
            "on GPUs that are joined by links and divide the model's heads; lower `context` or `max_batch`, add links"
        )
    return NoPlanError([Diagnostic("P002", message, (), help_)])


def explain_limit(solution: Solution) -> LimitError:
    """The search ended before it found any plan."""
    message = f"the search ended after {solution.nodes} nodes without a plan"
    return LimitError([Diagnostic("P006", message, (), "remove a rule, or plan for fewer machines")])


def explain_no_plan(question: Question) -> NoPlanError:
    """The smallest set of the user's lines that cannot hold together, with how far each is from holding."""
    made, rows = _with_all(question)
    guilty = conflict(made.model, rows, LIMITS)
    blamed = sorted((r for i, r in enumerate(question.rules.all) if str(i) in guilty), key=lambda r: r.span.start)
    if not blamed:
        return _load_alone(question) if question.serve_all else _undecided(question)
    helps = [_relaxed(question, rule, [r for r in blamed if r != rule]) for rule in blamed]
    notes: tuple[str, ...] = ()
    if LOAD in guilty:
        notes = (
            f"{shown(question.space.problem.arrivals or 0, 'req/s')} arrive, and no objective lets some of them wait",
        )
        helps.append(_served_at_most(question))
    count = "this line" if len(blamed) == 1 else f"these {len(blamed)} lines together"
    text = "; ".join(h for h in helps if h) or None
    labels = tuple(Label(r.span) for r in blamed)
    return NoPlanError([Diagnostic("P001", f"no plan meets {count}", labels, text, notes=notes)])


def _undecided(question: Question) -> NoPlanError:
    """The search for the conflict was cut short: all rules are named."""
    rules = question.rules.all
    labels = tuple(Label(r.span) for r in rules)
    return NoPlanError([Diagnostic("P001", f"no plan meets these {len(rules)} lines together", labels)])


def _load_alone(question: Question) -> NoPlanError:
    arrive = shown(question.space.problem.arrivals or 0, "req/s")
    free = replace(question, rules=Rules((), (), ()))
    most = free.optimum(free.space.everything(), Linear({"goodput": 1.0}), maximize, served=False)
    message = f"{arrive} arrive, but these machines serve at most {shown(most.value if most else 0, 'req/s', up=False)}"
    help_ = "add machines, lower the arrivals, or `maximize goodput` to serve what is possible"
    return NoPlanError([Diagnostic("P001", message, (), help_)])


def _served_at_most(question: Question) -> str | None:
    choice = question.space.meeting(question.rules)
    most = question.optimum(choice, Linear({"goodput": 1.0}), maximize, served=False)
    return f"within these lines at most {shown(most.value, 'req/s', up=False)} can be served" if most else None


@dataclass(frozen=True)
class _Pattern:
    """Operating points that meet the same filters."""

    met: tuple[bool, ...]
    choice: Choice


def _with_all(question: Question) -> tuple[Programme, dict[str, list[object]]]:
    """The programme in which every rule is a group of constraints, so that each can be dropped."""
    space, rules = question.space, question.rules
    patterns = _patterns(question)
    found = [(c, p.met) for p in patterns for c in worthwhile(space, p.choice, (), question.faster)]
    made = programme(space.problem, [c for c, _ in found], question.serve_all)
    rows: dict[str, list[object]] = {str(i): [] for i in range(len(rules.all))}
    for j, rule in enumerate(rules.filters):
        barred = [k for k, (_, met) in enumerate(found) if not met[j]]
        rows[str(rules.all.index(rule))] += made.bar(barred)
    for total in rules.total:
        rows[str(rules.all.index(total.rule))].append(made.require(total))
    if question.serve_all:
        rows[LOAD] = [made.model.all_served]
    return made, rows


def _patterns(question: Question) -> list[_Pattern]:
    space, filters = question.space, question.rules.filters
    met = [space.met(rule) for rule in filters]
    stacked = [
        np.stack([m[i] for m in met], axis=1) if met else np.zeros((len(o.points.batches), 0), dtype=bool)
        for i, o in enumerate(space.options)
    ]
    distinct = sorted({tuple(map(bool, row)) for rows in stacked for row in np.unique(rows, axis=0)}, reverse=True)
    return [
        _Pattern(p, Choice(tuple((rows == np.array(p, dtype=bool)).all(axis=1) for rows in stacked))) for p in distinct
    ]


def _relaxed(question: Question, rule: Rule, others: Sequence[Rule]) -> str | None:
    """At which limit one rule would hold beside all others, in words."""
    rest = question.without(rule)
    choice = rest.space.meeting(rest.rules)
    limit = limit_of(rule)
    if rule in question.rules.shape:
        return _other_shape(rest, choice, rule)
    if limit is None:
        return None
    if limit.metric.name == SPARE:
        value = _most_spare(rest, choice)
    elif rule in question.rules.point:
        value = rest.least(choice, limit.metric) if limit.metric in rest.space.named else None
    else:
        sense = minimize if limit.upper else maximize
        solved = rest.optimum(choice, limit.linear, sense)
        value = None if solved is None else solved.value
    return None if value is None else _said(limit, value, others)


def _most_spare(rest: Question, choice: Choice) -> float | None:
    """The largest share of the capacity that the arrivals leave free."""
    solved = rest.optimum(choice, Linear({"throughput": 1.0}, requests=True), maximize)
    arrivals = rest.space.problem.arrivals
    return None if solved is None or not arrivals else 1 - arrivals / solved.value


def _said(limit: Limit, value: float, others: Sequence[Rule]) -> str:
    amount = shown(value, limit.unit, up=limit.upper)
    least = "at least" if limit.upper else "at most"
    if len(others) != 1:
        return f"`{limit.metric}` is {least} {amount} here" + (", the other lines kept" if others else "")
    return f"`{others[0].text}` {'needs' if limit.upper else 'allows'} `{limit.metric}` of {least} {amount} here"


def _other_shape(rest: Question, choice: Choice, rule: Rule) -> str | None:
    """The degrees and stages of a plan of few GPUs without a rule over them."""
    solved = rest.optimum(choice, Linear({"devices": 1.0}), minimize)
    if solved is None:
        return None
    made = solved.programme
    shapes = [c.shape for i, c in enumerate(made.candidates) if made.model.x[i].value]
    degrees = ", ".join(map(str, sorted({tp for s in shapes for _, tp in s.stages})))
    depths = ", ".join(map(str, sorted({len(s.stages) for s in shapes})))
    return f"without `{rule.text}` there is a plan with tp {degrees} and pp {depths}"
