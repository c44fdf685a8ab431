"""Another plan for a deployment that runs: no replica moves or loads anything, only phases, loads and routes change.

ThunderServe (MLSys 2025) calls this lightweight rescheduling, and flips phases by a search; here it is a small exact
programme.  It is the one of `choose` over these candidates: each running replica, with the layers and the KV cache that
it has, in each role that it may take, at the highest rate at which it meets the rules about latencies.
Sets
    k  kinds of replica: the same layers on GPUs of the same classes, N_k of them;  r  roles, n_kr replicas in one now
Variables
    x_kr  whole, replicas of a kind in a role;  d_kr >= 0, those that come into it
Constraints
    sum_r x_kr <= N_k;  d_kr >= x_kr - n_kr;  flows, load and the user's rules over totals as in `choose`
Goals, in order: the most requests served; the fewest changes; the most requests that could be served.
Where no choice that keeps the rules serves anyone, as few as possible are left out, those about totals before those
about latencies, and the plan says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Certificate, Decision, Plan, Replica
from hexdsl.ir.replan import Moved, Replan
from hexdsl.passes.serve.candidates import Candidate, Space, quickest, roles_of, space_over
from hexdsl.passes.serve.choose import Programme, programme
from hexdsl.passes.serve.handover import share_out
from hexdsl.passes.serve.phases import prefill_as_loaded
from hexdsl.passes.serve.points import Points, Pricer
from hexdsl.passes.serve.predict import predict
from hexdsl.passes.serve.price import price
from hexdsl.passes.serve.problem import Problem, Role, problem_of
from hexdsl.passes.serve.relaxation import QUICK, Wanted, totals_bound
from hexdsl.passes.serve.route import route
from hexdsl.passes.serve.rules import Linear, Rules, latencies_in, rules_of
from hexdsl.passes.serve.shapes import Shape, Slot
from hexdsl.passes.serve.verify import CHECKS, BrokenPlanError, faults_of
from hexdsl.solve import Goal, NonNegativeReals, Solution, Var, lexicographic, maximize, minimize, quicksum


@dataclass(frozen=True)
class Kind:
    """Replicas with the same layers on GPUs of the same classes, and with the same KV cache."""

    shape: Shape
    layers: tuple[int, ...]
    kv_tokens: int


@dataclass(frozen=True)
class _Chosen:
    """A solved programme."""

    programme: Programme
    solutions: tuple[Solution, ...]
    served: float
    """Requests/s."""


def replan(before: Plan, now: Plan, gone: Collection[str] = (), added: Sequence[Replica] = ()) -> Replan:
    """The best phases, loads and routes of the replicas that are left.

    `before` is the plan that runs; `now` has today's machines and load; replicas `gone` are lost though their machines
    may be there; `added` are replicas that may be started beside those that run.  Raises NoPlanError (P001) where no
    replica is left that can serve.
    """
    lost = {r.name for r in before.replicas if r.name in gone or not _is_there(r, now)}
    left = (*(r for r in before.replicas if r.name not in lost), *added)
    if not left:
        raise NoPlanError(
            [Diagnostic("P001", "no replica is left", (), "plan the spec again on the machines there are")]
        )
    problem = problem_of(now)
    kinds = kinds_of(left, now, problem)
    chosen = _choose(problem, kinds, _running(before, kinds))
    made = _finished(now, problem, kinds, chosen)
    made = made.with_(decisions=(*now.decisions, *_decisions(before, made)))
    return Replan(
        plan=made,
        replicas=tuple(_moved(before, made, lost, added)),
        arrivals_req_per_s=problem.arrivals,
        served_before_req_per_s=before.served_req_per_s,
        served_after_req_per_s=made.served_req_per_s,
        broken=tuple(rule for rule in made.rules if not rule.holds),
    )


def _is_there(replica: Replica, now: Plan) -> bool:
    machines = {m.id for m in now.machines}
    return all(s.machine in machines for s in replica.stages)


def kinds_of(replicas: Sequence[Replica], plan: Plan, problem: Problem) -> dict[Kind, list[Replica]]:
    """The replicas by kind, in the order in which kinds first come."""
    classes, found = {c.name: i for i, c in enumerate(problem.classes)}, dict[Kind, list[Replica]]()
    for replica in replicas:
        machines = list(dict.fromkeys(s.machine for s in replica.stages))
        places = [(classes[plan.machine(s.machine).group], machines.index(s.machine)) for s in replica.stages]
        slots = tuple(Slot(c, m, s.tp) for (c, m), s in zip(places, replica.stages, strict=True))
        layers = tuple(b - a for a, b in (s.layers for s in replica.stages))
        found.setdefault(Kind(Shape(slots), layers, replica.kv_tokens), []).append(replica)
    return found


def _running(before: Plan, kinds: Mapping[Kind, Sequence[Replica]]) -> Counter[tuple[Kind, Role]]:
    """How many replicas of each kind run in each role."""
    names = {r.name for r in before.replicas}
    return Counter((kind, r.role) for kind, members in kinds.items() for r in members if r.name in names)


def _choose(problem: Problem, kinds: Mapping[Kind, Sequence[Replica]], now: Counter[tuple[Kind, Role]]) -> _Chosen:
    rules = rules_of(problem.serve)
    pricer, named = Pricer(problem, fine=True), latencies_in(rules, ())
    roles = roles_of(problem, named)
    pairs = [(kind, p) for kind in kinds for role in roles if (p := _points(pricer, kind, role)) is not None]
    space = space_over(pricer, named, [p for _, p in pairs], complete=True)
    owners = [kind for kind, _ in pairs]
    counts = {k: len(v) for k, v in kinds.items()}
    for some in _weaker(rules):
        found = [f for kept in some if (f := _solved(space, owners, kept, counts, now)) is not None]
        if found:
            return max(found, key=lambda f: f.served)
    raise NoPlanError([Diagnostic("P001", "no replica that is left can serve", (), "plan the spec again")])


def _weaker(rules: Rules) -> Iterator[Iterable[Rules]]:
    """Fewer and fewer of the rules; of those that come together the one is wanted by which most is served.

    A number of replicas or a cost that cannot be kept any more is no reason to let requests wait.
    """
    free = Rules(rules.shape, rules.point, ())
    yield (rules,)
    yield (rules.without(total.rule) for total in rules.total)
    yield (free,)
    for some in (rules, free):
        yield (some.without(rule) for rule in some.point)
        yield (Rules(some.shape, (), some.total),)
    yield (Rules((), (), ()),)


def _points(pricer: Pricer, kind: Kind, role: Role) -> Points | None:
    if not pricer.problem.may_do(role, {s.cls for s in kind.shape.slots}):
        return None
    if role == "prefill":
        return prefill_as_loaded(pricer, kind.shape, kind.layers, kind.kv_tokens)
    return pricer.as_loaded(kind.shape, kind.layers, kind.kv_tokens, role)


def _solved(
    space: Space, owners: Sequence[Kind], rules: Rules, counts: Mapping[Kind, int], now: Counter[tuple[Kind, Role]]
) -> _Chosen | None:
    """The best choice that keeps these rules; None where there is none."""
    best = quickest(space, space.meeting(rules))
    taken = [(kind, c) for kind, c in zip(owners, best, strict=True) if c is not None]
    if not taken:
        return None
    made = programme(space.problem, [c for _, c in taken], serve_all=False)
    for total in rules.total:
        made.require(total)
    model = made.model
    model.comes = Var(model.x.index_set(), domain=NonNegativeReals)
    for i, (kind, candidate) in enumerate(taken):
        made.add(model.comes[i] >= model.x[i] - now[kind, candidate.role])
    for kind, count in counts.items():
        members = [i for i, (k, _) in enumerate(taken) if k == kind]
        if members:
            made.add(quicksum(model.x[i] for i in members) <= count)
    possible = made.linear(Linear({"throughput": 1.0}, requests=True))
    served = possible if space.problem.arrivals is None else made.linear(Linear({"goodput": 1.0}))
    goals = [
        Goal(served.expression, maximize, "requests served"),
        Goal(quicksum(model.comes.values()), minimize, "changes"),
        Goal(possible.expression, maximize, "requests that could be served"),
        Goal(made.order().expression, minimize, "first in order"),
    ]
    solutions = lexicographic(model, goals)
    most = solutions[0].objective or 0.0
    return _Chosen(made, tuple(solutions), most * served.scale) if most > NOTHING else None


NOTHING = 1e-9
"""A choice that serves no more than this, in shares of the quickest replica, serves nobody."""


def _finished(now: Plan, problem: Problem, kinds: Mapping[Kind, Sequence[Replica]], chosen: _Chosen) -> Plan:
    """The plan with the chosen replicas, routed, priced, predicted and verified."""
    picked = _picked(problem, kinds, chosen)
    capacity = float(sum(r.capacity_req_per_s for r in picked if r.role == "both"))
    apart = any(r.role != "both" for r in picked)
    if apart:
        capacity += sum(float(v.value or 0.0) for v in chosen.programme.model.handed.values()) * chosen.programme.unit
    served = capacity if problem.arrivals is None else min(capacity, problem.arrivals)
    made = now.with_(replicas=picked, handovers=(), routes=(), simulation=None, verified=())
    if apart:
        shared = share_out(made, problem, served)
        loads = shared.loads
        made = made.with_(handovers=shared.handovers)
    else:
        loads = tuple(served * r.capacity_req_per_s / capacity for r in picked)
    rated = (r.with_(rate_req_per_s=min(load, r.capacity_req_per_s)) for r, load in zip(picked, loads, strict=True))
    made = predict(price(route(made.with_(replicas=tuple(rated)))))
    keeps = all(rule.holds for rule in made.rules)
    if faults := tuple(faults_of(made, rules=keeps)):
        raise BrokenPlanError("; ".join(faults))
    return made.with_(
        verified=CHECKS if keeps else CHECKS[:-1],
        certificates=(*now.certificates, _certificate(chosen, made)),
    )


def _picked(problem: Problem, kinds: Mapping[Kind, Sequence[Replica]], chosen: _Chosen) -> tuple[Replica, ...]:
    """The replicas in their new roles; of a kind, those stay in a role that have it already."""
    made, found = chosen.programme, dict[str, Replica]()
    order = {r.name: i for i, r in enumerate(r for members in kinds.values() for r in members)}
    for kind, members in kinds.items():
        wanted = [(c, round(made.model.x[i].value or 0)) for i, c in enumerate(made.candidates) if _is(c, kind)]
        free = {r.name: r for r in members}
        for stays in (True, False):
            for k, (candidate, count) in enumerate(wanted):
                some = [r for r in free.values() if not stays or r.role == candidate.role][:count]
                wanted[k] = candidate, count - len(some)
                for r in some:
                    found[r.name] = _in_role(free.pop(r.name), candidate, problem)
    return tuple(found[name] for name in sorted(found, key=order.__getitem__))


def _is(candidate: Candidate, kind: Kind) -> bool:
    return (candidate.shape, candidate.layers, candidate.kv_tokens) == (kind.shape, kind.layers, kind.kv_tokens)


def _in_role(replica: Replica, candidate: Candidate, problem: Problem) -> Replica:
    return replica.with_(
        role=candidate.role,
        max_batch=int(problem.seats(candidate.batch, candidate.kv_tokens)),
        step_tokens=candidate.step_tokens,
        capacity_req_per_s=candidate.rate,
        predictions=(),
    )


def _certificate(chosen: _Chosen, made: Plan) -> Certificate:
    """The light plan is the best of those that move no weights."""
    served, first = made.served_req_per_s, chosen.solutions[0]
    proven = first.status == "optimal"
    return Certificate(
        of="replan",
        goal="maximize served requests",
        unit="req/s",
        objective=served,
        bound=served,
        gap=0.0,
        status="optimal" if proven else "feasible",
        method="mixed-integer programme over the roles of the replicas that are there",
        solver=first.solver,
        work=sum(s.work for s in chosen.solutions),
        exact=proven,
    )


def most_served(now: Plan) -> float | None:
    """Requests/s that no plan on today's machines exceeds within the rules, weights moved or not; None if not known."""
    problem = problem_of(now)
    aim = Linear({"goodput": 1.0} if problem.arrivals is not None else {"throughput": 1.0}, requests=True)
    wanted = Wanted(problem, Pricer(problem), aim, "maximize", rules_of(problem.serve), serve_all=False)
    return totals_bound(wanted, QUICK)


def _decisions(before: Plan, made: Plan) -> Iterator[Decision]:
    roles = {r.name: r.role for r in before.replicas}
    for replica in made.replicas:
        was = roles.get(replica.name)
        if was is not None and was != replica.role:
            text = "more requests are served so, or as many with fewer changes than any other way"
            yield Decision(by="replan", what=replica.name, choice=f"{was} becomes {replica.role}", reason=text)


def _moved(before: Plan, made: Plan, lost: Collection[str], added: Sequence[Replica]) -> Iterator[Moved]:
    """Each replica's fate, in the order of the old plan, then those that start."""
    after = {r.name: r for r in made.replicas}
    for r in before.replicas:
        now = after.get(r.name)
        same = now is not None and now.role == r.role
        yield Moved(
            replica=r.name,
            fate="lost" if r.name in lost else "idle" if now is None else "goes on" if same else "changes",
            role_before=r.role,
            role_after=None if now is None else now.role,
            rate_before_req_per_s=r.rate_req_per_s,
            rate_after_req_per_s=0.0 if now is None else now.rate_req_per_s,
        )
    for r in added:
        now = after.get(r.name)
        if now is not None:
            yield Moved(replica=r.name, fate="starts", role_after=now.role, rate_after_req_per_s=now.rate_req_per_s)
