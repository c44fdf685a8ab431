"""Why a plan is as it is, in words: as a whole, or one metric, replica, machine, GPU, rule or decision of it."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from hexdsl.ir.plan import Plan
from hexdsl.report import explain_parts as parts
from hexdsl.report import explain_worth as asked
from hexdsl.report import figures as say
from hexdsl.report.explain_parts import Lines

if TYPE_CHECKING:
    from hexdsl.passes.serve.answers import Answers

WIDTH = 96
MOST_LISTED = 24


class UnknownSubject(ValueError):
    """The plan has nothing of that name; `help` says what is near, or what there is."""

    def __init__(self, what: str, known: Iterable[str]) -> None:
        self.help = _help(what, tuple(dict.fromkeys(known)))
        self.message = f"the plan has nothing called `{say.clean(what)}`"
        super().__init__(f"{self.message}; {self.help}")


def _help(what: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(what, known, 3, 0.6)
    if near:
        return f"did you mean {' or '.join(f'`{n}`' for n in near)}?"
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return f"one of {', '.join(f'`{n}`' for n in known[:MOST_LISTED])}{more}"


def explain_plan(plan: Plan, what: str | None = None, answers: Answers | None = None) -> str:
    """Explains a plan or a part of it, with `answers` also by what other plans come to.

    Raises UnknownSubject, a ValueError, where `what` names nothing.
    """
    if what is None:
        return written(_overview(plan, answers))
    known = subjects(plan, answers)
    wanted = _normal(what)
    caseless = {name.lower(): explainer for name, explainer in reversed(known.items())}
    found = known.get(wanted) or caseless.get(wanted.lower()) or known.get(parts.bare(wanted))
    if found is None:
        raise UnknownSubject(what, known)
    return written(found())


def _normal(what: str) -> str:
    return " ".join(what.split())


def written(lines: Lines) -> str:
    """Lines as text: titles flush left, the rest indented and wrapped with a hanging indent."""
    out = []
    for line in lines:
        text = say.clean(line)
        margin = re.match(r" *", text)[0]  # type: ignore[index]
        out.append(textwrap.fill(text, WIDTH, subsequent_indent=margin + "  ", break_on_hyphens=False) if text else "")
    return "\n".join(out).strip("\n") + "\n"


Explainer = Callable[[], Lines]


def subjects(plan: Plan, answers: Answers | None = None) -> dict[str, Explainer]:
    """Everything that can be asked about, by name; where two share a name the first one stands."""
    found: dict[str, Explainer] = {}
    for name, explainer in _named(plan, answers):
        found.setdefault(_normal(name), explainer)
    return found


def _named(plan: Plan, answers: Answers | None) -> Iterator[tuple[str, Explainer]]:
    yield from ((name, partial(topic, plan)) for name, topic in TOPICS.items())
    if answers is not None:
        yield from ((name, partial(question, answers)) for name, question in asked.QUESTIONS.items())
    yield from ((name, partial(parts.metric, plan, name)) for name in _metrics(plan))
    yield from ((r.name, partial(parts.replica, plan, r)) for r in plan.replicas)
    for machine in plan.machines:
        yield from ((name, partial(parts.machine, plan, machine)) for name in (machine.id, machine.host))
    yield from ((name, partial(parts.group, plan, name)) for name in dict.fromkeys(m.group for m in plan.machines))
    for rule in plan.rules:
        yield from ((name, partial(parts.rule, plan, rule)) for name in (rule.text, f"line {rule.line}"))
    yield from ((d.what, partial(parts.decided, [d])) for d in plan.decisions)
    passes = dict.fromkeys([*(c.of for c in plan.certificates), *(d.by for d in plan.decisions)])
    yield from ((name, partial(parts.of_pass, plan, name)) for name in passes)
    yield from ((d.id, partial(parts.device, plan, m, d)) for m in plan.machines for d in m.devices)


def _metrics(plan: Plan) -> dict[str, None]:
    """Metrics as predicted, and their bare names: `p95(ttft)` is found as `ttft` too."""
    full = [p.metric for p in (*plan.predictions, *(p for r in plan.replicas for p in r.predictions))]
    return dict.fromkeys([*full, *(parts.bare(m) for m in full)])


def _overview(plan: Plan, answers: Answers | None) -> Lines:
    yield f"{plan.name}: {say.model_name(plan)} on {plan.workflow.on.name}"
    sections: tuple[tuple[str, Lines], ...] = (
        ("What binds", parts.binding(plan)),
        ("Why this shape", parts.decided(plan.decisions)),
        ("How good it is", _proofs(plan)),
        ("What takes the time", _times(plan)),
        ("What the memory is used for", parts.memory(plan)),
        *compared(answers),
    )
    for title, lines in sections:
        yield from parts.titled(title, lines)
    yield ""
    yield f"Ask about one thing: {', '.join([*_examples(plan), *(asked.QUESTIONS if answers else ())])}."


def compared(answers: Answers | None) -> tuple[tuple[str, Lines], ...]:
    """The plan beside others, by section: one or a few lines each."""
    return () if answers is None else tuple((title, digest(answers)) for title, digest in asked.DIGESTS)


def _examples(plan: Plan) -> Iterator[str]:
    yield from (parts.bare(p.metric) for p in plan.predictions[:2])
    yield from (r.name for r in plan.replicas[:1])
    yield from (m.id for m in plan.machines[:1])
    yield from TOPICS


def _times(plan: Plan) -> Lines:
    for p in plan.predictions:
        if parts.bare(p.metric) in ("tpot", "ttft") and p.terms:
            shares = ", ".join(f"{t.name} {say.percent(share)}" for t, share in say.largest_terms(p))
            yield f"{p.metric} ({parts.said(p)}): {shares}"


def _proofs(plan: Plan) -> Lines:
    return (line for c in plan.certificates for line in parts.proof(c))


def _rules(plan: Plan) -> Lines:
    if not plan.rules:
        yield "The spec has no rules."
    yield from (parts.rule_line(plan, r) for r in plan.rules)


def _certificates(plan: Plan) -> Lines:
    if not plan.certificates:
        yield "No pass of this plan optimises anything, so there is nothing to prove."
    yield from _proofs(plan)


def _decisions(plan: Plan) -> Lines:
    return parts.decided(plan.decisions) if plan.decisions else ["No decision was recorded."]


def _defaults(plan: Plan) -> Lines:
    if not plan.defaults:
        yield "No default shaped this plan."
    for default in plan.defaults:
        yield f"{default.pin}: {default.description} (to pin it, write it in `{default.place}`)"


TOPICS: dict[str, Callable[[Plan], Lines]] = {
    "rules": _rules,
    "memory": parts.memory,
    "cost": parts.cost,
    "precision": parts.precision,
    "routes": parts.routes,
    "certificate": _certificates,
    "decisions": _decisions,
    "defaults": _defaults,
}
