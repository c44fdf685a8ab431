"""The answers of `hexdsl.passes.serve.answers` in words: what binds, what more is worth, and how other plans compare.

Other plans are compared by the cost model, with the margins that the plan keeps; only the plan itself is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hexdsl.report import figures as say
from hexdsl.report.explain_parts import Lines, titled

if TYPE_CHECKING:
    from hexdsl.passes.serve.answers import Answers
    from hexdsl.passes.serve.cut import Edge
    from hexdsl.passes.serve.idle import Idle, Unused
    from hexdsl.passes.serve.pace import Pace
    from hexdsl.passes.serve.second import Phase, Phases, Second, Turned
    from hexdsl.passes.serve.what_if import Outcome
    from hexdsl.passes.serve.worth import Change, Worth

SAME = 1e-5
"""Objectives that differ by less than this share count as equal: so near the solver comes."""


def goal_value(value: float, unit: str) -> str:
    """A value of the first objective; money by the hour."""
    if unit == "usd/s":
        return say.amount(round(value * 3600, 2), "usd/h")
    return say.rough(value, unit) if unit and value else say.digits(value)


def rate(value: float) -> str:
    return goal_value(value, "req/s")


# --- what binds ---


def bottleneck(answers: Answers) -> Lines:
    """The minimum cut, all capacities on the way, and what sets the pace of each replica."""
    found = answers.bottleneck
    yield f"At most {rate(found.flow_req_per_s)} can pass through this plan: {_bound_by(found.edges)}."
    if found.also:
        yield f"Just as tight: {_bound_by(found.also)}."
    yield from titled("Capacities on the way", (_capacity(e) for e in found.capacities))
    yield from titled("What sets the pace of each replica", (line for p in found.paces for line in _pace(p)))


def bottleneck_digest(answers: Answers) -> Lines:
    found = answers.bottleneck
    yield f"at most {rate(found.flow_req_per_s)} can pass: {_bound_by(found.edges)}"
    yield from (_paced(p) for p in found.paces)


def _bound_by(edges: Sequence[Edge]) -> str:
    if len(edges) == 1 and edges[0].what in DOES:
        return f"that is all that {_on(edges[0])} can {CAN[edges[0].what]}"
    return "; ".join(_edge(e) for e in edges)


CAN = {"prefill": "prefill", "decode": "decode", "both": "serve"}


def _on(e: Edge) -> str:
    return f"{e.names[0]} on {e.where}"


def _edge(e: Edge) -> str:
    if e.what == "arrivals":
        return "no more requests arrive"
    if e.what == "link":
        return f"the link {e.where} carries no more KV caches from {e.names[0]} to {e.names[1]}"
    return f"{_on(e)} can {CAN[e.what]} {rate(e.capacity_req_per_s)}"


def _capacity(e: Edge) -> str:
    names = {"arrivals": "arrivals", "link": "KV caches over links", "both": "prefill and decode on one replica"}
    who = f" ({', '.join(e.names)})" if e.names else ""
    return f"{names.get(e.what, e.what)}{who}: {rate(e.capacity_req_per_s)}"


def _paced(p: Pace) -> str:
    shares = ", ".join(f"{s.resource} {say.percent(s.share)}" for s in p.shares)
    member = p.member or "the whole path, stage after stage,"
    role = "" if p.role == "both" else f" ({p.role})"
    what = "a prompt" if p.role == "prefill" else "a step"
    return f"{p.replica}{role}: {member} sets it, {say.rough(p.seconds, 's')} {what}: {shares}"


def _pace(p: Pace) -> Iterator[str]:
    yield _paced(p)
    if p.role == "prefill":
        yield (
            f"  run at {say.percent(p.capacity_req_per_s * p.seconds)} of that, {rate(p.capacity_req_per_s)}, so that "
            "prompts wait no longer than the rules allow"
        )
    else:
        full = f" on stage {p.fullest}" if p.seats.startswith("the KV cache") else ""
        yield f"  at most {say.count(p.together, 'request')} together{': ' if p.seats else ''}{p.seats}{full}"


# --- what more is worth ---

KINDS = {
    "machine": "One more machine",
    "gpu": "One more GPU",
    "rule": "A rule relaxed by a tenth",
    "dropped": "Without a rule",
    "link": "A link twice as wide",
}


def worth(answers: Answers) -> Lines:
    """What each change would give."""
    found = answers.worth
    yield f"{found.goal}: {_now(found)}."
    if not found.changes:
        yield "All requests that arrive are served: nothing more would serve more of them."
    for kind, title in KINDS.items():
        yield from titled(title, _changes([c for c in found.changes if c.kind == kind], found))


def worth_digest(answers: Answers) -> Lines:
    found = answers.worth
    best = [c for kind in KINDS for c in found.changes if c.kind == kind and c.better][:MOST_SAID]
    yield from (f"{KINDS[c.kind][0].lower()}{KINDS[c.kind][1:]}, {_gain(c, found)}" for c in best)
    if not best:
        yield "nothing: all requests that arrive are served" if not found.changes else _nothing()


MOST_SAID = 4


def _nothing() -> str:
    return "no one machine, GPU, rule or link would help alone"


def _now(found: Worth) -> str:
    parts = [f"now {goal_value(found.value, found.unit)}"]
    if found.unit != "req/s":
        parts.append(rate(found.served_req_per_s))
    if found.unit != "usd/s" and found.cost_usd_per_h is not None:
        parts.append(say.cost(found.cost_usd_per_h))
    return ", ".join(parts)


def _changes(changes: Sequence[Change], found: Worth) -> Iterator[str]:
    yield from (_gain(c, found) for c in changes if c.better)
    idle = [c for c in changes if not c.better]
    if idle:
        yield f"nothing from {'; '.join(c.what for c in idle)}{_limits(idle, found)}"


def _gain(c: Change, found: Worth) -> str:
    share = f" ({say.percent(c.better / abs(found.value))} better)" if found.value else ""
    more = [f"{goal_value(c.value, found.unit)}{share}"]
    if c.more_req_per_s and found.unit != "req/s":
        more.append(f"{rate(abs(c.more_req_per_s))} {'more' if c.more_req_per_s > 0 else 'less'}")
    if c.cost_usd_per_h is not None and found.unit != "usd/s":
        more.append(f"at {say.cost(c.cost_usd_per_h)}")
    if c.bound is not None:
        more.append(_limit(c.bound, c.value, found))
    return f"{c.what}: {', '.join(more)}"


def _limit(bound: float, value: float, found: Worth) -> str:
    """How far a plan with the change might get at most."""
    if abs(bound - value) <= SAME * abs(value):
        return "which no plan beats"
    side = "more" if found.goal.startswith("maximize") else "less"
    return f"no plan comes to {side} than {goal_value(bound, found.unit)}"


def _limits(changes: Sequence[Change], found: Worth) -> str:
    bounds = {c.bound for c in changes}
    bound = bounds.pop() if len(bounds) == 1 else None
    return "" if bound is None else f" ({_limit(bound, found.value, found)})"


# --- phases ---


def phases(answers: Answers) -> Lines:
    """For each kind of replica what it would be worth in another role."""
    found = answers.phases
    if not found.apart:
        value = goal_value(answers.apart.value, found.unit)
        yield "The spec names no phases, so every replica does both.  `phase prefill {}` lets them lie apart."
        yield f"  {found.goal}: the best plan then comes to {value}, {_beside(answers.apart, found.best, found.goal)}."
        return
    yield f"{found.goal}: {goal_value(found.best.value, found.unit)}."
    for p in found.phases:
        yield from titled(
            f"{_named(p)}: {DOES[p.role]} on {p.words}, {rate(p.rate_req_per_s)} at most", _others(p, found)
        )


def phases_digest(answers: Answers) -> Lines:
    found = answers.phases
    for p in found.phases:
        best = min((t for t in p.others if t.worse is not None), key=lambda t: t.worse or 0.0, default=None)
        if best is None:
            yield f"{_named(p)}: in no other role do these GPUs meet the rules"
        else:
            yield f"{_named(p)}: {DOES[p.role]}; {_instead(best, found)}"


DOES = {"both": "does both phases", "prefill": "prefills", "decode": "decodes"}
DOING = {"both": "doing both phases", "prefill": "prefilling", "decode": "decoding"}


def _named(p: Phase) -> str:
    if len(p.names) < 2:
        return "".join(p.names) or "a replica"
    return f"{p.names[0]} to {p.names[-1]}" if len(p.names) > 2 else " and ".join(p.names)


def _others(p: Phase, found: Phases) -> Iterator[str]:
    for t in p.others:
        if t.rate_req_per_s is None:
            yield f"{DOING[t.role]}, there is no load at which it meets the rules"
            continue
        yield f"{DOING[t.role]}, it would take {rate(t.rate_req_per_s)}; {_instead(t, found)}"


def _instead(t: Turned, found: Phases) -> str:
    if t.instead is None:
        return f"no plan in which one of them is {DOING[t.role]} meets the rules"
    if not t.instead.served_req_per_s:
        return f"with one {DOING[t.role]}, nothing is served: no replicas for the other phase meet the rules beside it"
    value = goal_value(t.instead.value, found.unit)
    return f"the best plan with one {DOING[t.role]} comes to {value}, {_worse(t.worse, found.best.value)}"


def _beside(other: Outcome, best: Outcome, goal: str) -> str:
    less = best.value - other.value
    return _worse(less if goal.startswith("maximize") else -less, best.value)


def _worse(worse: float | None, of: float) -> str:
    if worse is None or abs(worse) <= SAME * abs(of):
        return "as good"
    return f"{say.percent(abs(worse) / abs(of))} {'worse' if worse > 0 else 'better'}" if of else "worse"


# --- second best ---


def second(answers: Answers) -> Lines:
    """The best plan, and the best with other replicas."""
    found = answers.second
    yield f"Best: {_made_of(found.best)}."
    yield f"  {_outcome(found.best, found.unit)}"
    if found.second is None:
        yield "No plan with other replicas meets the rules."
        return
    yield f"Second best, of plans with other replicas: {_made_of(found.second)}."
    yield f"  {_outcome(found.second, found.unit)}: {_why_second(found, found.second)}"


def second_digest(answers: Answers) -> Lines:
    found = answers.second
    if found.second is None:
        yield "no plan with other replicas meets the rules"
    else:
        value = goal_value(found.second.value, found.unit)
        yield f"{_made_of(found.second)}: {value}, {_why_second(found, found.second)}"


def _made_of(o: Outcome) -> str:
    """`1 replica on 8 H100 of big (prefill), 2 on 2 A100 of middle each (decode)`."""
    found = []
    for alike in o.replicas:
        on, bracket, role = alike.words.partition(" (")
        found.append(f"{alike.count} on {on}{' each' if alike.count > 1 else ''}{bracket}{role}")
    first, *rest = found
    noun = "replica" if o.replicas[0].count == 1 else "replicas"
    return ", ".join([first.replace(" on ", f" {noun} on ", 1), *rest])


def _outcome(o: Outcome, unit: str) -> str:
    parts = [] if unit in ("req/s", "usd/s") else [goal_value(o.value, unit)]
    parts += [rate(o.served_req_per_s), say.count(o.gpus, "GPU")]
    return ", ".join(parts if o.cost_usd_per_h is None else [*parts, say.cost(o.cost_usd_per_h)])


def _why_second(found: Second, other: Outcome) -> str:
    """What puts it behind: the first objective, or the first tie-break in which it is worse."""
    if found.worse and found.worse > SAME * abs(found.best.value):
        return _worse(found.worse, found.best.value)
    return f"as good, but {_behind(found.best, other)}"


def _behind(best: Outcome, other: Outcome) -> str:
    less = best.served_req_per_s - other.served_req_per_s
    if less > SAME * best.served_req_per_s:
        return f"it serves {rate(less)} less"
    dearer = (other.cost_usd_per_h or 0.0) - (best.cost_usd_per_h or 0.0)
    if dearer > SAME * (best.cost_usd_per_h or 0.0):
        return f"it costs {say.cost(dearer)} more"
    if other.gpus > best.gpus:
        return f"it takes {say.count(other.gpus - best.gpus, 'GPU')} more"
    more = _replicas(other) - _replicas(best)
    return (
        f"it has {say.count(more, 'replica')} more" if more > 0 else "nothing sets it apart: the first found was taken"
    )


def _replicas(o: Outcome) -> int:
    return sum(alike.count for alike in o.replicas)


# --- idle GPUs ---


def idle(answers: Answers) -> Lines:
    """Why GPUs are unused."""
    found = answers.idle
    if not found.idle:
        yield "Every GPU is in use."
        return
    if found.served_in_full:
        yield "All requests that arrive are served without them."
    yield from (_idle(i, found) for i in found.idle)
    if found.more:
        yield f"and {say.count(found.more, 'group')} more with unused GPUs"


def _idle(i: Idle, found: Unused) -> str:
    head = f"{i.group}: {i.unused} of {say.count(i.of, i.gpu)} unused"
    return f"{head}; {REASONS[i.reason](i, found)}"


def _with_one(i: Idle, found: Unused) -> str:
    assert i.instead is not None
    one = "one" if i.unused == i.of else "one more"
    value = goal_value(i.instead.value, found.unit)
    start = f"the best plan that uses {one} comes to {value}"
    if i.reason == "worse":
        return f"{start}, {_worse(i.worse, found.best.value)}"
    return f"{start} too, but {_behind(found.best, i.instead)}"


def _no_memory(i: Idle, _: Unused) -> str:
    missing = say.memory(i.weights_bytes - i.room_bytes)
    return (
        f"together they have room for {say.memory(i.room_bytes)}, and the weights take {say.memory(i.weights_bytes)}: "
        f"{missing} are missing, and no pipeline with other machines holds the model"
    )


REASONS: dict[str, Callable[[Idle, Unused], str]] = {
    "worse": _with_one,
    "equal": _with_one,
    "rules": lambda i, _: "no plan that uses one more of them meets the rules",
    "memory": _no_memory,
    "links": lambda i, _: "no replica can be made there: its parts lack links, or room beside the weights",
}

QUESTIONS: dict[str, Callable[[Answers], Lines]] = {
    "bottleneck": bottleneck,
    "worth": worth,
    "phases": phases,
    "second": second,
    "idle": idle,
}

DIGESTS: tuple[tuple[str, Callable[[Answers], Lines]], ...] = (
    ("What bounds the rate", bottleneck_digest),
    ("What more would be worth", worth_digest),
    ("Why the phases lie where they do", phases_digest),
    ("What was second best", second_digest),
    ("Why GPUs are idle", idle),
)
