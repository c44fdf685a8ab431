"""What more would be worth: the programme solved again with one more machine or GPU, a looser rule, a wider link.

The plan with more has every operating point of the one without, and those of shapes that need what is new:
    one more machine of class c     n_c + 1
    one more GPU in a machine       n_c - 1 and a class of one machine with g_c + 1 GPUs, in which every shape may
                                    lie that lies in one of c; shapes that take all g_c + 1 GPUs are priced anew
    a rule relaxed by a tenth       its limit times 1.1, or 0.9 for a lower one; whole totals by one at least
    a rule dropped                  what it costs as a whole
    a link twice as wide            shapes that use it are priced again
so that more is never worse.  On large inventories only the shapes that are best of their kind are priced again where a
link is widened, and the first `MOST_NEW` where a machine grows; the gain may then be larger than said.  What no plan
with more can beat is the bound of the independent relaxation (`relaxation`); on large inventories it is computed for
the best machine only, since it takes longer than all else here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.plan import Device, Machine
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.rule import Compare, Number, Rule
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.adapter import network_of, tp_degrees
from hexdsl.passes.serve.candidates import Options, priced, roles_of
from hexdsl.passes.serve.goals import expression
from hexdsl.passes.serve.limits import limit_of, shown
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import Problem, Role
from hexdsl.passes.serve.question import Kept, Question
from hexdsl.passes.serve.relaxation import Wanted, latency_bound, totals_bound
from hexdsl.passes.serve.rules import SHAPES, WHOLE, Linear, rules_of, written_rules
from hexdsl.passes.serve.shapes import Shape, every_shape
from hexdsl.passes.serve.what_if import WhatIf, decided, leaned, outcome_of, with_more
from hexdsl.passes.serve.wide import promising_shapes
from hexdsl.solve import NonNegativeReals, maximize, solve
from hexdsl.solve import Objective as Goal

MOST_IN_MACHINE = 8
"""GPUs in a machine, beyond which it is not taken to grow: servers have room for as many."""

TRIED = 8
"""Classes of machines that are tried: those from which the linear relaxation of the programme gains most."""


MOST_NEW = 32
"""New shapes that are priced where a machine grows."""

MOST_RULES = 8
"""Rules that are relaxed, in the order in which they are written."""

ChangeKind = Literal["machine", "gpu", "rule", "dropped", "link"]


class Change(Ir):
    """Something more, and the best plan with it."""

    kind: ChangeKind
    what: str
    better: Rounded
    """By how much the first objective is better, in its base unit."""
    more_req_per_s: Rounded
    value: Rounded
    bound: Rounded | None
    """What no plan beats with it; None where that is not known."""
    cost_usd_per_h: Rounded | None = None
    """Of the plan with it, where it is known."""


class Worth(Ir):
    """What changes are worth, the best of each kind first."""

    goal: str
    unit: str
    value: Rounded
    served_req_per_s: Rounded
    cost_usd_per_h: Rounded | None
    served_in_full: bool
    changes: tuple[Change, ...]


def worth(asked: WhatIf) -> Worth:
    """What one more machine or GPU of each class, a looser rule or a wider link would give."""
    now, problem = asked.outcome, asked.problem
    found: list[Change] = []
    full = problem.arrivals is not None and now.served_req_per_s >= problem.arrivals * (1 - NOISE)
    if not (full and asked.aim.linear == Linear({"goodput": 1.0})):
        for some in (_machines(asked), _gpus(asked), _rules(asked), _dropped(asked), _links(asked)):
            found += sorted(some, key=lambda c: (-c.better, -c.more_req_per_s))
    return Worth(
        goal=asked.aim.text,
        unit=asked.aim.unit,
        value=now.value,
        served_req_per_s=now.served_req_per_s,
        cost_usd_per_h=now.cost_usd_per_h,
        served_in_full=full,
        changes=tuple(found),
    )


def _machines(asked: WhatIf) -> Iterator[Change]:
    """One more machine of each class; of the best, and on small inventories of all, with a bound."""
    found: list[tuple[Change, Question]] = []
    for c in _promising(asked):
        cls, question = asked.problem.classes[c], with_machine(asked, c)
        what = f"{cls.name} ({cls.size} {cls.gpu.name})"
        found.append((_decided(asked, "machine", what, question, machines_with(asked, c)), question))
    for k, (change, question) in enumerate(sorted(found, key=lambda f: -f[0].better)):
        yield _bounded(change, question) if k == 0 or asked.problem.small else change


def _promising(asked: WhatIf) -> list[int]:
    """The classes to try."""
    classes = list(range(len(asked.problem.classes)))
    if len(classes) <= TRIED:
        return classes
    values = {c: _fractional(asked, c) for c in classes}
    return sorted(classes, key=lambda c: (-asked.gain(values[c]), c))[:TRIED]


def _fractional(asked: WhatIf, c: int) -> float:
    """The first objective with one more machine of a class where replicas need not be whole; as it is otherwise."""
    question, aim = _over(asked.lean, _counted(asked.problem, c, 1)), asked.aim
    made = question.programme(question.space.meeting(question.rules))
    if made is None or (aim.metric is not None and aim.metric not in question.means):
        return asked.now.value
    for variable in (*made.model.x.values(), *made.model.z.values()):
        variable.domain = NonNegativeReals
    form = expression(aim, made, question.column(aim))
    made.model.goal = Goal(expr=form.expression, sense=aim.direction)
    reached = solve(made.model).objective
    return asked.now.value if reached is None else reached * form.scale


def _over(question: Question, problem: Problem) -> Question:
    """The same question with the same operating points, of another problem."""
    return replace(question, space=replace(question.space, problem=problem))


def with_machine(asked: WhatIf, c: int) -> Question:
    """The question with one more machine of a class."""
    problem = _counted(asked.problem, c, 1)
    known = {o.points.shape for o in asked.question.space.options}
    fresh = [s for s in _shapes(problem) if s not in known]
    return _more(asked, problem, dict.fromkeys(_roles(asked), fresh))


def _roles(asked: WhatIf) -> tuple[Role, ...]:
    return roles_of(asked.problem, asked.question.space.named)


def machines_with(asked: WhatIf, c: int) -> tuple[Machine, ...]:
    """The plan's machines and one more of a class."""
    cls = asked.problem.classes[c]
    name = f"{cls.name}-{cls.count}"
    devices = tuple(Device(id=f"{name}:{k}", gpu=cls.gpu.name, index=k) for k in range(cls.size))
    return (*asked.plan.machines, Machine(id=name, group=cls.name, host=name, devices=devices))


def _counted(problem: Problem, c: int, more: int) -> Problem:
    classes = tuple(replace(k, count=k.count + more) if i == c else k for i, k in enumerate(problem.classes))
    return replace(problem, classes=classes)


def _shapes(problem: Problem) -> tuple[Shape, ...]:
    return every_shape(problem) if problem.small else promising_shapes(problem, Pricer(problem))


def _more(
    asked: WhatIf, problem: Problem, shapes: Mapping[Role, Sequence[Shape]], others: tuple[Options, ...] = ()
) -> Question:
    """The question of a problem with more shapes, which are priced, and with others that are."""
    space = asked.lean.space
    fresh = priced(Pricer(problem), space.named, shapes).options
    question = replace(asked.question, space=with_more(space, (*others, *fresh), problem))
    return leaned(question, question.space.meeting(question.rules))


def _gpus(asked: WhatIf) -> Iterator[Change]:
    for c in _promising(asked):
        cls = asked.problem.classes[c]
        if cls.size < MOST_IN_MACHINE:
            what = f"{cls.name} ({cls.size + 1} {cls.gpu.name} in one machine)"
            question = with_gpu(asked, c)
            change = _reached(asked, "gpu", what, question)
            yield _bounded(change, question) if asked.problem.small else change


def with_gpu(asked: WhatIf, c: int) -> Question:
    """The question with one more GPU in one machine of a class."""
    problem = _counted(asked.problem, c, -1)
    cls, new = asked.problem.classes[c], len(problem.classes)
    grown = replace(cls, count=1, size=cls.size + 1, degrees=tp_degrees(problem.arch, cls.size + 1))
    problem = replace(problem, classes=(*problem.classes, grown))
    shapes = [s for s in _shapes(problem) if (new, grown.size) in s.signature][:MOST_NEW]
    moved = tuple(m for o in asked.lean.space.options for m in _moved(o, c, new))
    return _more(asked, problem, dict.fromkeys(_roles(asked), shapes), moved)


def _moved(options: Options, c: int, new: int) -> Iterator[Options]:
    """A shape with one of its machines of a class in another class: one of each size."""
    shape = options.points.shape
    seen: set[int] = set()
    for machine, (cls, size) in shape.parts.items():
        if cls == c and size not in seen:
            seen.add(size)
            slots = tuple(s._replace(cls=new) if s.machine == machine else s for s in shape.slots)
            yield replace(options, points=replace(options.points, shape=Shape(slots)))


def _rules(asked: WhatIf) -> Iterator[Change]:
    for rule in written_rules(asked.problem.serve)[:MOST_RULES]:
        loose = relaxed(rule)
        if loose is not None:
            what = f"line {rule.span.line}: {loose.text}"
            yield _decided(asked, "rule", what, with_rule(asked, rule, loose), asked.plan.machines)


def _dropped(asked: WhatIf) -> Iterator[Change]:
    for rule in written_rules(asked.problem.serve)[:MOST_RULES]:
        question = asked.leaned(asked.question.without(rule))
        yield _decided(asked, "dropped", f"line {rule.span.line}: {rule.text}", question, asked.plan.machines)


def relaxed(rule: Rule) -> Rule | None:
    """A rule with its limit moved by a tenth, whole totals by one at least; None where it has no such limit."""
    limit = limit_of(rule)
    if limit is None or limit.metric.name in SHAPES:
        return None
    assert isinstance(rule.expr, Compare)
    side = "right" if isinstance(rule.expr.right, Number) else "left"
    number = getattr(rule.expr, side)
    step = max(0.1 * abs(number.value), 1.0 if limit.metric.name in WHOLE else 0.0)
    value = number.value + (step if limit.upper else -step)
    text = f"{limit.metric} {'<=' if limit.upper else '>='} {shown(value, limit.unit, up=limit.upper)}"
    return rule.with_(expr=rule.expr.with_(**{side: number.with_(value=value)}), text=text)


def with_rule(asked: WhatIf, rule: Rule, instead: Rule) -> Question:
    """The question with another rule in the place of one."""
    serve = asked.problem.serve

    def swapped(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(instead if r == rule else r for r in rules)

    phases = tuple(p.with_(rules=swapped(p.rules)) for p in serve.phase)
    changed: Serve = serve.with_(rules=swapped(serve.rules), phase=phases)
    space = replace(asked.question.space, problem=replace(asked.problem, serve=changed))
    return asked.leaned(replace(asked.question, space=space, rules=rules_of(changed)))


def _links(asked: WhatIf) -> Iterator[Change]:
    for what, cluster in widened(asked.problem.serve.on):
        yield _decided(asked, "link", what, with_cluster(asked, cluster), asked.plan.machines)


def widened(cluster: Cluster) -> Iterator[tuple[str, Cluster]]:
    """The cluster with each of its written links twice as wide, and what that is called."""
    for k, link in enumerate(cluster.links):
        wide = link.with_(bandwidth=2 * link.bandwidth)
        yield f"{link.left} <-> {link.right}", cluster.with_(links=(*cluster.links[:k], wide, *cluster.links[k + 1 :]))
    for k, within in enumerate(cluster.within):
        broad = within.with_(bandwidth=2 * within.bandwidth)
        others = (*cluster.within[:k], broad, *cluster.within[k + 1 :])
        yield f"within {within.name}", cluster.with_(within=others)
    for k, nodes in enumerate(cluster.nodes):
        if nodes.interconnect is not None and nodes.gpus.count > 1:
            quick = nodes.with_(interconnect=2 * nodes.interconnect)
            machines = (*cluster.nodes[:k], quick, *cluster.nodes[k + 1 :])
            yield f"interconnect of {nodes.name}", cluster.with_(nodes=machines)


def with_cluster(asked: WhatIf, cluster: Cluster) -> Question:
    """The question over another network of the same machines."""
    problem = replace(asked.problem, network=network_of(cluster))
    space = asked.question.space if asked.question.space.complete else asked.lean.space
    shapes: dict[Role, dict[Shape, None]] = {}
    for points in (o.points for o in space.options):
        if _ways(points.shape, problem) != _ways(points.shape, asked.problem):
            shapes.setdefault(points.role, {})[points.shape] = None
    return _more(asked, problem, {role: tuple(some) for role, some in shapes.items()})


def _ways(shape: Shape, problem: Problem) -> tuple[object, ...]:
    """The links that a shape's price hangs on."""
    inside = tuple(problem.network.inside[problem.classes[c].name] if tp > 1 else None for c, tp in shape.stages)
    return shape.hops(problem), inside


def _decided(asked: WhatIf, kind: ChangeKind, what: str, question: Question, machines: tuple[Machine, ...]) -> Change:
    made = decided(question, machines)
    if made is None:
        return _change(asked, kind, what, asked.now.value, asked.outcome.served_req_per_s)
    found = outcome_of(made, question.space.problem)
    change = _change(asked, kind, what, made.value, found.served_req_per_s)
    return change.with_(cost_usd_per_h=found.cost_usd_per_h) if change.better else change


def _reached(asked: WhatIf, kind: ChangeKind, what: str, question: Question) -> Change:
    value, served = reached(question) or (asked.now.value, asked.outcome.served_req_per_s)
    return _change(asked, kind, what, value, served)


def reached(question: Question) -> tuple[float, float] | None:
    """The first objective at its best and the requests/s served then, before placement; None without a plan."""
    choice, aim = question.space.meeting(question.rules), question.aims[0]
    if aim.metric is not None and aim.metric not in question.means:
        value = question.least(choice, aim.metric)
        if value is None:
            return None
        choice = choice.where(question.space.at_most(aim.metric, value))
    else:
        solved = question.optimum(choice, aim, aim.direction)
        if solved is None:
            return None
        value, question = solved.value, question.keeping(Kept(aim, solved.value))
    most = question.optimum(choice, Linear({"goodput": 1.0}), maximize)
    return value, most.value if most else 0.0


def _change(asked: WhatIf, kind: ChangeKind, what: str, value: float, served: float) -> Change:
    """What a change is worth; where plans with it are no better, that of the plan which leaves it unused."""
    better = asked.gain(value)
    if better <= NOISE * abs(asked.now.value):
        better, value = 0.0, asked.now.value
    return Change(
        kind=kind,
        what=what,
        better=better,
        more_req_per_s=_clear(served - asked.outcome.served_req_per_s, served) if better else 0.0,
        value=value,
        bound=None,
    )


def _clear(difference: float, of: float) -> float:
    return difference if abs(difference) > NOISE * of else 0.0


NOISE = 1e-5
"""Changes of an objective by less than this share are the solver's tolerance."""


def _bounded(change: Change, question: Question) -> Change:
    return change.with_(bound=bound_of(question))


def bound_of(question: Question) -> float | None:
    """What no plan beats in the first objective, from the independent relaxation."""
    space, aim = question.space, question.aims[0]
    pricer = Pricer(space.problem)
    if aim.metric is not None:
        return latency_bound(space.problem, pricer, aim.metric)
    assert aim.linear is not None
    wanted = Wanted(space.problem, pricer, aim.linear, aim.sense, question.rules, question.serve_all)
    return totals_bound(wanted)
