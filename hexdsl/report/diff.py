"""What changed between two plans, in words: placement, routes, predictions, cost, rules, formats, proofs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from hexdsl.ir.plan import Certificate, Plan, Precision, Prediction, Replica, RuleCheck
from hexdsl.report import figures as say

ROUNDING = 1e-3
"""Relative distance below which two figures count as the same: the views show four digits."""

MOST_FIELDS = 20
OTHERWISE_COMPARED = ("rules", "span", "expr")

T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """One difference.  `old` is empty for what is new, `new` for what is gone."""

    section: str
    what: str
    old: str
    new: str

    @property
    def text(self) -> str:
        if not self.old:
            return f"+ {self.what}: {self.new}"
        if not self.new:
            return f"- {self.what}: {self.old}"
        return f"~ {self.what}: {self.old} -> {self.new}"


@dataclass(frozen=True)
class Diff:
    """The differences between two plans, in the order of the views."""

    old: str
    new: str
    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both plans do the same and promise the same; wording and digests may differ."""
        return not self.changes

    @property
    def text(self) -> str:
        """The differences by section: `+` new, `-` gone, `~` changed."""
        if self.same:
            digests = "" if self.old == self.new else f" ({self.old} and {self.new} differ only in reasons and notes)"
            return f"the plans are the same{digests}\n"
        lines = [f"plan {self.old} -> {self.new}"]
        for section in dict.fromkeys(c.section for c in self.changes):
            lines += ["", section, *(f"  {c.text}" for c in self.changes if c.section == section)]
        return "\n".join(lines) + "\n"

    @property
    def json(self) -> dict[str, Any]:
        """The differences as plain data."""
        changes = [asdict(change) for change in self.changes]
        return {"format_version": "1.0", "same": self.same, "old": self.old, "new": self.new, "changes": changes}


def plan_diff(old: Plan, new: Plan) -> Diff:
    """What the new plan does differently.  Figures that differ by less than one in a thousand are the same."""
    return Diff(old.digest(), new.digest(), tuple(_changes(old, new)))


def _changes(old: Plan, new: Plan) -> Iterator[Change]:
    yield from _spec(old, new)
    yield from _words("machines", _machines(old), _machines(new))
    yield from _replica_changes(old, new)
    yield from _words("precision", _formats(old.precision), _formats(new.precision))
    yield from _figures("predictions", old.predictions, new.predictions, lambda p: p.metric, _close_predictions, _said)
    yield from _cost(old, new)
    yield from _figures("rules", old.rules, new.rules, lambda r: r.text, _close_rules, _ruled)
    yield from _figures("proofs", old.certificates, new.certificates, lambda c: c.of, _close_certificates, _proved)
    yield from _words("decisions", _decided(old), _decided(new))
    yield from _words("defaults", _defaults(old), _defaults(new))


def _words(section: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for key in dict.fromkeys([*old, *new]):
        if old.get(key, "") != new.get(key, ""):
            yield Change(section, say.clean(key), say.clean(old.get(key, "")), say.clean(new.get(key, "")))


def _figures(
    section: str, old: Iterable[T], new: Iterable[T], key: Callable[[T], str], same: Callable[[T, T], bool],
    show: Callable[[T], str],
) -> Iterator[Change]:  # fmt: skip
    before, after = {key(x): x for x in old}, {key(x): x for x in new}
    for name in dict.fromkeys([*before, *after]):
        one, two = before.get(name), after.get(name)
        if one is None or two is None or not same(one, two):
            texts = ("" if x is None else say.clean(show(x)) for x in (one, two))
            yield Change(section, say.clean(name), *texts)


def close(one: float | None, two: float | None) -> bool:
    """Whether two figures are the same up to rounding."""
    if one is None or two is None:
        return one is two
    return abs(one - two) <= ROUNDING * max(abs(one), abs(two))


def _spec(old: Plan, new: Plan) -> Iterator[Change]:
    changes = tuple(_words("spec", _subject(old), _subject(new)))
    yield from changes[:MOST_FIELDS]
    if len(changes) > MOST_FIELDS:
        yield Change("spec", f"{len(changes) - MOST_FIELDS} more fields", "", "differ")


def _subject(plan: Plan) -> dict[str, str]:
    fields = dict(_leaves(plan.workflow.model_dump(mode="json"), ""))
    return {"longest request": f"{plan.context} tokens", **fields}


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every field of the spec as `target.0.ports`; rules are compared by what they come to, and places not at all."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path, value if isinstance(value, str) else json.dumps(value)
        return
    for key, part in parts:
        if key not in OTHERWISE_COMPARED:
            yield from _leaves(part, f"{path}.{key}" if path else str(key))


def _machines(plan: Plan) -> dict[str, str]:
    return {m.id: f"{say.count(len(m.devices), 'GPU')} on {m.host}" for m in plan.machines}


def _formats(formats: Sequence[Precision]) -> dict[str, str]:
    words = "weights {0.weights}, activations {0.activations}, KV cache {0.kv}, computes in {0.compute}"
    return {p.gpu: words.format(p) for p in formats}


def _decided(plan: Plan) -> dict[str, str]:
    return {d.what: d.choice for d in plan.decisions}


def _defaults(plan: Plan) -> dict[str, str]:
    return {f"{d.place}: {d.description}": d.pin for d in plan.defaults}


def _cost(old: Plan, new: Plan) -> Iterator[Change]:
    if not close(old.cost_usd_per_h, new.cost_usd_per_h):
        yield Change("cost", "per hour", say.cost(old.cost_usd_per_h), say.cost(new.cost_usd_per_h))


def _close_predictions(one: Prediction, two: Prediction) -> bool:
    pairs = ((one.value, two.value), (one.low, two.low), (one.high, two.high))
    return one.unit == two.unit and all(close(a, b) for a, b in pairs)


def _said(p: Prediction) -> str:
    if say.is_exact(p):
        return say.middle(p)
    return say.interval(p) if say.range_only(p) else f"{say.middle(p)} ({say.interval(p)})"


def _close_rules(one: RuleCheck, two: RuleCheck) -> bool:
    same = (one.holds, one.binding, one.unit) == (two.holds, two.binding, two.unit)
    return same and close(one.value, two.value) and close(one.limit, two.limit)


def _ruled(rule: RuleCheck) -> str:
    value = "" if rule.value is None else say.rough(rule.value, rule.unit)
    limit = "" if rule.limit is None else f"limit {say.amount(rule.limit, rule.unit)}"
    state = "broken" if not rule.holds else "binds" if rule.binding else "holds"
    return ", ".join(filter(None, (value, limit, state)))


def _close_certificates(one: Certificate, two: Certificate) -> bool:
    same = (one.status, one.exact, one.goal) == (two.status, two.exact, two.goal)
    return same and close(one.objective, two.objective) and close(one.bound, two.bound)


def _proved(c: Certificate) -> str:
    return f"{c.goal}: {say.goal_value(c.objective, c)}, bound {say.goal_value(c.bound, c)}, {c.status}"


def _replica_changes(old: Plan, new: Plan) -> Iterator[Change]:
    kept, gone, come = matched(old.replicas, new.replicas)
    for before, after in kept:
        name = after.name if before.name == after.name else f"{after.name} (was {before.name})"
        yield from _words("replicas", _facts(before, old, name), _facts(after, new, name))
    for replica in gone:
        yield Change("replicas", say.clean(replica.name), say.clean(_placed(replica)), "")
    for replica in come:
        yield Change("replicas", say.clean(replica.name), "", say.clean(_placed(replica)))


Pairs = tuple[tuple[Replica, Replica], ...]


def matched(old: Sequence[Replica], new: Sequence[Replica]) -> tuple[Pairs, tuple[Replica, ...], tuple[Replica, ...]]:
    """Replicas that stayed (same GPUs, else same name), those that are gone, and those that are new.

    GPUs come first, so that a renumbering after a lost replica does not read as if everything had moved.
    """
    gone, come = list(old), list(new)
    kept: list[tuple[Replica, Replica]] = []
    for key in (_place, _name):
        for before in tuple(gone):
            after = next((r for r in come if key(r) == key(before)), None)
            if after is not None:
                kept.append((before, after))
                gone.remove(before)
                come.remove(after)
    order = {id(r): i for i, r in enumerate(new)}
    return tuple(sorted(kept, key=lambda pair: order[id(pair[1])])), tuple(gone), tuple(come)


def _place(replica: Replica) -> object:
    return frozenset(replica.devices)


def _name(replica: Replica) -> object:
    return replica.name


def _placed(replica: Replica) -> str:
    """`layers 0..45 on big-0:4-5, 46..79 on middle-0:0-3`."""
    return "layers " + ", ".join(f"{say.layers(s)} on {say.device_ranges(s.devices)}" for s in replica.stages)


def _facts(replica: Replica, plan: Plan, name: str) -> dict[str, str]:
    """What a reader compares of a replica; figures with three digits."""
    facts = {
        "stages": _placed(replica),
        "share of requests": say.share_text((replica,), plan),
        "batch": str(replica.max_batch),
        "KV cache": f"{say.digits(float(f'{replica.kv_tokens:.3g}'))} tokens",
        "capacity": say.amount(float(f"{replica.capacity_req_per_s:.3g}"), "req/s"),
    }
    return {f"{name} {key}": value for key, value in facts.items()}
