"""How the views say figures, shares, ranges and sets of GPUs: one wording for text, pages, graphs and differences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from hexdsl.ir.plan import (
    Certificate,
    Handover,
    Machine,
    Memory,
    Plan,
    Prediction,
    Provenance,
    Replica,
    RuleCheck,
    Stage,
    Term,
)
from hexdsl.ir.quantity import BANDWIDTH, BYTES, Dimension
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.lang.units import UnitError, quantity, show

WEAKEST_FIRST: tuple[Provenance, ...] = ("modelled", "measured", "profiled", "given")
BYTE = BYTES.dims[0]
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


NO_GAP = 1e-6


def clean(text: str) -> str:
    """Text that cannot steer a terminal: control characters and direction marks become `?`."""
    return _UNPRINTABLE.sub("?", text)


def amount(value: float, unit: str) -> str:
    """A value with its unit as short text: `38.4ms`, `$30.20/h`, `91.5%`."""
    if unit == "%":
        return f"{digits(value)}%"
    scale, dim = _scale(unit)
    return show(value * scale, dim) if dim is not None else f"{digits(value)} {clean(unit)}"


def rough(value: float, unit: str) -> str:
    """A predicted value: three significant digits, since the fourth is never meant."""
    return amount(float(f"{value:.3g}"), unit)


def _scale(unit: str) -> tuple[float, Dimension | None]:
    if unit in ("", "B", "bytes"):
        return 1.0, BYTE if unit else ()
    try:
        one = quantity(f"1{unit}")
    except UnitError:
        return 1.0, None
    return one.value, one.dim


def digits(value: float) -> str:
    """Four significant digits; whole numbers in full."""
    return show(value, ())


def memory(bytes_: float) -> str:
    """Bytes with three significant digits."""
    return show(float(f"{bytes_:.3g}"), BYTE)


def percent(share: float) -> str:
    """A share as a percentage: whole, or with one decimal below ten."""
    value = 100 * share
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return f"{text.removesuffix('.0')}%"


def network(bytes_per_s: float) -> str:
    """A network's bandwidth in bits, as networks are sold: `200Gb/s`."""
    bits = 8 * bytes_per_s
    size, name = next(((s, n) for s, n in ((1e12, "Tb/s"), (1e9, "Gb/s")) if bits >= s), (1e6, "Mb/s"))
    return f"{digits(bits / size)}{name}"


def bandwidth(bytes_per_s: float) -> str:
    """A bandwidth in bytes."""
    return show(bytes_per_s, BANDWIDTH.dims[0])


def cost(usd_per_h: float) -> str:
    """A cost per hour, or that there are no prices."""
    return amount(usd_per_h, "usd/h") if usd_per_h else "no price given"


def count(number: int, noun: str) -> str:
    """`1 replica`, `1,240 replicas`."""
    return f"{whole(number)} {noun}" if number == 1 else f"{whole(number)} {noun}s"


def whole(number: int) -> str:
    """A whole number with its thousands parted."""
    return f"{number:,}"


def layers(stage: Stage) -> str:
    """`0..45`: the first and the last layer."""
    return f"{stage.layers[0]}..{stage.layers[1] - 1}"


def layer_count(stage: Stage) -> int:
    return stage.layers[1] - stage.layers[0]


def gpus(stage: Stage) -> str:
    """`4 x H100`."""
    return f"{stage.tp} x {clean(stage.gpu)}"


def device_ranges(devices: Iterable[str]) -> str:
    """`big-0:0-3,6`: device ids of one machine put together, machines parted by spaces."""
    split = [(d.rpartition(":")[0], d.rpartition(":")[2]) for d in devices]
    return clean(" ".join(_of_machine(m, [i for _, i in part]) for m, part in groupby(split, key=lambda s: s[0])))


def _of_machine(machine: str, indices: list[str]) -> str:
    if not machine or not all(i.isdecimal() for i in indices):
        return " ".join(f"{machine}:{i}" if machine else i for i in indices)
    return f"{machine}:{ranges(sorted(int(i) for i in indices))}"


def ranges(numbers: Sequence[int]) -> str:
    """`0-3,6` for 0, 1, 2, 3 and 6."""
    runs = (list(run) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    return ",".join(str(run[0][1]) if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}" for run in runs)


def memory_parts(part: Memory) -> tuple[tuple[str, int], ...]:
    """What fills one GPU's memory, in bytes, in the order in which the views draw it."""
    used = part.weights_bytes + part.kv_bytes + part.other_bytes
    free = max(0, part.capacity_bytes - used)
    return (("weights", part.weights_bytes), ("KV cache", part.kv_bytes), ("other", part.other_bytes), ("free", free))


def filled(part: Memory) -> float:
    """Share of one GPU's memory that is spoken for."""
    return (part.weights_bytes + part.kv_bytes + part.other_bytes) / max(1, part.capacity_bytes)


def middle(p: Prediction) -> str:
    """The value of a prediction; empty where only its range is said."""
    if range_only(p):
        return ""
    return amount(p.value, p.unit) if is_exact(p) else rough(p.value, p.unit)


def is_exact(p: Prediction) -> bool:
    """Whether a prediction is one number, such as a sum of given prices."""
    return p.low == p.value == p.high


def range_only(p: Prediction) -> bool:
    """TTFT is never said as one number: queueing makes any single value misleading."""
    return "ttft" in p.metric and not is_exact(p)


def interval(p: Prediction) -> str:
    """`31ms to 46ms`; `exact` where given figures were only added up; `no range` where the planner gave none."""
    if not is_exact(p):
        return f"{rough(p.low, p.unit)} to {rough(p.high, p.unit)}"
    return "exact" if provenance(p.terms) == "given" else "no range"


def provenance(terms: Iterable[Term]) -> str:
    """The weakest ground that a prediction stands on."""
    found = {t.provenance for t in terms}
    return next((p for p in WEAKEST_FIRST if p in found), "")


def largest_terms(p: Prediction) -> tuple[tuple[Term, float], ...]:
    """The parts of a prediction with their shares, largest first; parts of no weight are left out."""
    total = sum(abs(t.value) for t in p.terms)
    if not total or not math.isfinite(total):
        return ()
    shares = [(t, abs(t.value) / total) for t in p.terms if t.value]
    return tuple(sorted(shares, key=lambda pair: -pair[1]))


def margin(rule: RuleCheck) -> float | None:
    """Relative distance between a rule's value and its limit; None where one of them is missing."""
    if rule.value is None or rule.limit is None:
        return None
    return abs(rule.limit - rule.value) / max(abs(rule.limit), 1e-300)


def verdict(rule: RuleCheck, plan: Plan) -> str:
    """`broken`, `binds`, `12% to spare` or `holds`, and whether the prediction's range reaches past the limit."""
    spare = margin(rule)
    if not rule.holds:
        return "broken"
    if rule.binding:
        return "binds"
    text = f"{percent(spare)} to spare" if spare else "holds"
    return f"{text}, but the range reaches past it" if _crosses(rule, plan) else text


def mood(rule: RuleCheck, plan: Plan) -> str:
    """`bad` where a rule is broken, `warn` where it is at or near its limit, else `good`."""
    if not rule.holds:
        return "bad"
    return "warn" if rule.binding or _crosses(rule, plan) else "good"


def _crosses(rule: RuleCheck, plan: Plan) -> bool:
    p = prediction_of(rule, plan)
    return p is not None and rule.limit is not None and p.unit == rule.unit and p.low < rule.limit < p.high


def prediction_of(rule: RuleCheck, plan: Plan) -> Prediction | None:
    """The prediction that a rule such as `p95(ttft) <= 400ms` is about."""
    words = rule.text.split()
    return next((p for p in plan.predictions if words and p.metric == words[0]), None)


def comes_to(rule: RuleCheck, plan: Plan) -> str:
    """What the rule's metric comes to: a value, or a range where the metric is only said as one."""
    p = prediction_of(rule, plan)
    if p is not None and range_only(p):
        return interval(p)
    if rule.value is None:
        return ""
    return f"about {rough(rule.value, rule.unit)}" if "ttft" in rule.text else amount(rule.value, rule.unit)


def goal_value(value: float, c: Certificate) -> str:
    """An objective or bound in the unit of the objective."""
    return amount(value, c.unit) if c.unit else digits(value)


def proof(c: Certificate) -> str:
    """What a certificate proves, in a few words."""
    if c.status == "optimal" and c.exact:
        return "best of every plan in the search space"
    if c.gap <= NO_GAP:
        return "reaches the bound: no plan can be better"
    if c.status == "optimal":
        return "best of the plans considered; the bound holds for every plan"
    how = "work limit reached" if c.status == "limit" else "heuristic" if not c.exact else "search not finished"
    return f"{how}; the bound holds for every plan"


ALIKE_FROM = 13
"""Replicas from which those of one shape share a row."""


def alike(replicas: Sequence[Replica]) -> tuple[tuple[Replica, ...], ...]:
    """Replicas one by one or, in large plans, neighbours of one shape together."""
    if len(replicas) < ALIKE_FROM:
        return tuple((r,) for r in replicas)
    return tuple(tuple(run) for _, run in groupby(replicas, key=shape))


def shape(replica: Replica) -> tuple[object, ...]:
    """What replicas of one kind have in common: layers, GPUs and memory per stage, and the batch."""
    return (replica.max_batch, replica.role, *((s.layers, s.gpu, s.tp, s.memory) for s in replica.stages))


def model_of(plan: Plan) -> Model | None:
    """The model that a plan is for, where its workflow has just one."""
    return plan.workflow.model if isinstance(plan.workflow, Serve) else None


def model_name(plan: Plan) -> str:
    model = model_of(plan)
    return clean(model.name) if model else type(plan.workflow).KIND


def total_devices(plan: Plan) -> int:
    return sum(len(m.devices) for m in plan.machines)


def used_devices(plan: Plan) -> tuple[str, ...]:
    return tuple(d for r in plan.replicas for d in r.devices)


def idle_devices(machine: Machine, plan: Plan) -> tuple[str, ...]:
    """GPUs of a machine that the plan leaves alone."""
    used = set(used_devices(plan))
    return tuple(d.id for d in machine.devices if d.id not in used)


def share_text(replicas: Sequence[Replica], plan: Plan) -> str:
    """Share of the requests that some replicas of one role get together; `-` before routes are planned."""
    total = sum(r.weight for r in plan.routes)
    if replicas[0].role == "decode":
        served = plan.served_req_per_s
        return percent(sum(r.rate_req_per_s for r in replicas) / served) if served else "-"
    names = {r.name for r in replicas}
    return percent(sum(r.weight for r in plan.routes if r.replica in names) / total) if total else "-"


def handover(h: Handover, plan: Plan) -> tuple[str, str]:
    """From which replica to which, and what share of its requests in which form."""
    held = {p.gpu: p.kv for p in plan.precision}
    source = next(r for r in plan.replicas if r.name == h.source)
    whole = FORMAT_BITS.get(held.get(source.stages[0].gpu, ""), h.bits)
    form = f"compressed to {h.bits} bits" if h.bits < whole else "as it is"
    return clean(f"{h.source} to {h.target}"), f"{percent(h.weight)} of its requests, the KV cache {form}"


FORMAT_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}


def names(replicas: Sequence[Replica]) -> str:
    """`r0`, or `r0 to r15`."""
    named = replicas[0].name if len(replicas) == 1 else f"{replicas[0].name} to {replicas[-1].name}"
    return clean(named if replicas[0].role == "both" else f"{named} ({replicas[0].role})")
