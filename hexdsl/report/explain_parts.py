"""The parts of a plan in words, one function a kind of part.  Each gives lines; those of a section are indented."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from hexdsl.ir.plan import Certificate, Decision, Device, Machine, Plan, Prediction, Replica, RuleCheck, Stage
from hexdsl.report import figures as say
from hexdsl.report.topology import groups, joins

Lines = Iterable[str]
_BARE = re.compile(r"^[a-z0-9]+\((.*)\)$")


def titled(title: str, lines: Lines) -> Iterator[str]:
    """A section; nothing at all where it has no lines."""
    for i, line in enumerate(lines):
        if i == 0:
            yield ""
            yield title
        yield f"  {line}"


def bare(metric: str) -> str:
    """`ttft` for `p95(ttft)`."""
    match = _BARE.match(metric)
    return match[1] if match else metric


def said(p: Prediction) -> str:
    """`50ms, 40ms to 60ms`."""
    return ", ".join(filter(None, (say.middle(p), say.interval(p))))


def ruled(plan: Plan, rule: RuleCheck) -> str:
    """What a rule's metric comes to, its limit, and the verdict."""
    limit = "" if rule.limit is None else f"limit {say.amount(rule.limit, rule.unit)}"
    sides = ", ".join(filter(None, (say.comes_to(rule, plan), limit)))
    return ": ".join(filter(None, (sides, say.verdict(rule, plan))))


def rule_line(plan: Plan, rule: RuleCheck) -> str:
    return f"line {rule.line}: {rule.text}: {ruled(plan, rule)}"


def binding(plan: Plan) -> Lines:
    """The rules at their limit, else the nearest one."""
    held = [r for r in plan.rules if r.binding or not r.holds]
    yield from (rule_line(plan, r) for r in held)
    near = [(m, r) for r in plan.rules if r not in held and (m := say.margin(r)) is not None]
    if near and not held:
        spare, rule_ = min(near, key=lambda pair: pair[0])
        yield f"no rule binds; the nearest is line {rule_.line}, {rule_.text}, with {say.percent(spare)} to spare"
    if not plan.rules:
        yield "the spec has no rules: only memory and the hardware bound the plan"


def decided(decisions: Iterable[Decision]) -> Lines:
    """Choices with their reasons."""
    return (f"{d.what}: {d.choice}; {d.reason} ({d.by})" for d in decisions)


def proof(c: Certificate) -> Lines:
    """A certificate in two sentences."""
    side = "below" if c.goal.startswith("minimize") else "above"
    reached = f"{c.of}: {c.goal} reached {say.goal_value(c.objective, c)}"
    yield f"{reached}; with the same cost model no plan comes {side} {say.goal_value(c.bound, c)}."
    yield f"  Gap {say.percent(c.gap)}: {say.proof(c)}. Found by {c.method} ({c.solver}, {say.count(c.work, 'step')})."


def metric(plan: Plan, name: str) -> Lines:
    """A metric: what it means, what it comes to, its parts, its replicas, and the rules about it."""
    about = next((m for m in type(plan.workflow).METRICS if m.name == bare(name)), None)
    yield f"{name}: {about.description}" if about else name
    for p in _of_metric(plan.predictions, name):
        yield from titled(f"{p.metric}: {said(p)}", _terms(p))
    each = ((r, p) for r in plan.replicas for p in _of_metric(r.predictions, name))
    yield from titled("By replica", (f"{r.name}: {p.metric} {said(p)}{_led_by(p)}" for r, p in each))
    about_it = (r for r in plan.rules if bare(name) in re.findall(r"\w+", r.text))
    yield from titled("Rules about it", (rule_line(plan, r) for r in about_it))


def _of_metric(predictions: Iterable[Prediction], name: str) -> Iterator[Prediction]:
    return (p for p in predictions if name in (p.metric, bare(p.metric)))


def _terms(p: Prediction) -> Iterator[str]:
    terms = say.largest_terms(p)
    if not terms:
        yield "the planner gives no parts of this one"
    for term, share in terms:
        value = "" if say.range_only(p) else f" ({say.rough(term.value, p.unit)})"
        yield f"{say.percent(share):>5}  {term.name}{value}, {term.provenance}"


def _led_by(p: Prediction) -> str:
    terms = say.largest_terms(p)
    return f"; mostly {terms[0][0].name} ({say.percent(terms[0][1])})" if terms else ""


def replica(plan: Plan, r: Replica) -> Lines:
    """A replica: its load, stages, memory and predictions."""
    size = f"{say.count(len(r.stages), 'stage')} on {say.count(len(r.devices), 'GPU')}"
    yield f"{r.name}: {size}, {say.cost(r.cost_usd_per_h)}"
    load = f"{say.rough(r.rate_req_per_s, 'req/s')} of at most {say.rough(r.capacity_req_per_s, 'req/s')}"
    yield f"  gets {say.share_text((r,), plan)} of the requests: {load}"
    yield f"  {r.max_batch} requests decode together; the KV cache holds {say.whole(r.kv_tokens)} tokens"
    yield from titled("Stages", (_stage(i, s) for i, s in enumerate(r.stages, 1)))
    yield from titled("Predicted", (f"{p.metric}: {said(p)}{_led_by(p)}" for p in r.predictions))
    named = (d for d in plan.decisions if r.name in re.findall(r"\w+", f"{d.what} {d.choice} {d.reason}"))
    yield from titled("Why", decided(named))


def _stage(number: int, s: Stage) -> str:
    where = f"{say.gpus(s)} ({say.device_ranges(s.devices)})"
    return f"stage {number}: layers {say.layers(s)} on {where}; memory of each: {_memory_words(s)}"


def _memory_words(s: Stage) -> str:
    parts = ", ".join(f"{name} {say.memory(size)}" for name, size in say.memory_parts(s.memory))
    return f"{parts} of {say.memory(s.memory.capacity_bytes)}"


def machine(plan: Plan, m: Machine) -> Lines:
    """A machine: its GPUs and who holds them, and its links."""
    kinds = Counter(d.gpu for d in m.devices)
    yield f"{m.id}: {', '.join(f'{n} x {kind}' for kind, n in kinds.items())}, host {m.host}, group {m.group}"
    yield from (f"  {line}" for line in _holdings(plan, m))
    links = (j for j in joins(plan) if m.group in (j.left, j.right))
    yield from titled("Links", (f"{j.words}: {j.label}" for j in links))


def _holdings(plan: Plan, m: Machine) -> Iterator[str]:
    for r in plan.replicas:
        for i, s in enumerate(r.stages, 1):
            if s.machine == m.id:
                yield f"{r.name} stage {i}: layers {say.layers(s)} on {say.device_ranges(s.devices)}"
    if idle := say.idle_devices(m, plan):
        yield f"idle: {say.device_ranges(idle)}"


def device(plan: Plan, m: Machine, d: Device) -> Lines:
    """A GPU: who holds it and what fills its memory."""
    yield f"{d.id}: {d.gpu}, number {d.index} of {m.id} (host {m.host})"
    held = [(r, i, s) for r in plan.replicas for i, s in enumerate(r.stages, 1) if d.id in s.devices]
    if not held:
        yield "  idle: no replica uses it"
    for r, i, s in held:
        shared = f", shared among {s.tp} GPUs by tensor parallelism" if s.tp > 1 else ""
        yield f"  holds layers {say.layers(s)} of {r.name} (stage {i}){shared}"
        yield f"  memory: {_memory_words(s)}"


def group(plan: Plan, name: str) -> Lines:
    """A group of equal machines."""
    yield from (g.title for g in groups(plan) if g.name == name)
    for m in (m for m in plan.machines if m.group == name):
        yield f"  {m.id}: {'; '.join(_holdings(plan, m))}"


def rule(plan: Plan, r: RuleCheck) -> Lines:
    """A rule of the user, and the prediction that it is about."""
    yield f"line {r.line}: {r.text}"
    yield f"  {ruled(plan, r)}"
    if r.binding:
        yield "  It binds: the plan sits at this limit, so relaxing it may allow a better plan."
    words = re.findall(r"\w+", r.text)
    for p in (p for p in plan.predictions if bare(p.metric) in words):
        yield from titled(f"{p.metric}: {said(p)}", _terms(p))


def memory(plan: Plan) -> Lines:
    """What fills the memory of the GPUs in use, all together and per stage."""
    stages = [s for r in plan.replicas for s in r.stages]
    total = sum(s.tp * s.memory.capacity_bytes for s in stages)
    sums: Counter[str] = Counter()
    for s in stages:
        sums.update({name: s.tp * size for name, size in say.memory_parts(s.memory)})
    if total:
        words = ", ".join(f"{name} {say.memory(size)} ({say.percent(size / total)})" for name, size in sums.items())
        yield f"{say.memory(total)} on {say.count(sum(s.tp for s in stages), 'GPU')} in use: {words}"
    fullest = max(stages, key=lambda s: say.filled(s.memory), default=None)
    if fullest is not None:
        where = f"{say.device_ranges(fullest.devices)} at {say.percent(say.filled(fullest.memory))}"
        yield f"fullest: {where}; {_memory_words(fullest)}"


def cost(plan: Plan) -> Lines:
    """What the GPUs in use cost, by replica, and the rules about it."""
    if not plan.cost_usd_per_h:
        yield "The spec gives no prices, so the plan has no cost."
        return
    yield f"{say.cost(plan.cost_usd_per_h)}: the GPUs in use; idle ones are not counted"
    for r in plan.replicas:
        kinds = Counter(s.gpu for s in r.stages for _ in s.devices)
        held = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
        share = say.percent(r.cost_usd_per_h / plan.cost_usd_per_h)
        yield f"  {r.name}: {say.cost(r.cost_usd_per_h)} ({share}), {held}"
    about = (r for r in plan.rules if "cost" in re.findall(r"\w+", r.text))
    yield from titled("Rules about it", (rule_line(plan, r) for r in about))


def precision(plan: Plan) -> Lines:
    """The number formats on each kind of GPU, and why."""
    for p in plan.precision:
        formats = f"weights {p.weights}, activations {p.activations}, KV cache {p.kv}"
        yield f"{p.gpu}: {formats}; computes in {p.compute}: {p.reason}"


def routes(plan: Plan) -> Lines:
    """How requests are shared among the replicas."""
    for r in plan.replicas:
        load = f"{say.rough(r.rate_req_per_s, 'req/s')} of at most {say.rough(r.capacity_req_per_s, 'req/s')}"
        yield f"{r.name}: {say.share_text((r,), plan)} of the requests, {load}"


def of_pass(plan: Plan, name: str) -> Lines:
    """What one pass decided and proved."""
    yield f"pass {name}"
    yield from titled("Decided", decided(d for d in plan.decisions if d.by == name))
    yield from titled("Proved", (line for c in plan.certificates if c.of == name for line in proof(c)))
