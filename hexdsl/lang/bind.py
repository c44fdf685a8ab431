"""From a block's statements to a checked record: fields, sub-blocks, references, rules, flows and links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Label, Span
from hexdsl.ir.spec.rule import Objective, Rule, metrics_in
from hexdsl.ir.values import Word, suggestion
from hexdsl.lang import nodes
from hexdsl.lang.complaints import validate
from hexdsl.lang.conditions import Conditions
from hexdsl.lang.evaluate import Evaluator, Place, Value, said
from hexdsl.lang.scope import BAD, Entry, Files, Module
from hexdsl.lang.shape import FieldShape, Shape, shape_of
from hexdsl.lang.source import text_of


@dataclass
class Draft:
    """A block on its way to its record: values by field, and where they were written."""

    shape: Shape
    place: Place
    title: str
    values: dict[str, Any] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    written: dict[str, Span] = field(default_factory=dict)

    def put(self, name: str, value: Value, place: Place) -> None:
        """Sets a field; a value that was reported as wrong only marks it."""
        if value is BAD:
            self.bad.add(name)
            return
        self.values[name] = value
        self.place.parts[name] = place

    def append(self, name: str, value: Value, place: Place) -> None:
        """Adds to a tuple field."""
        if value is BAD:
            self.bad.add(name)
            return
        entries = self.values.get(name, ())
        self.place.parts.setdefault(name, Place(place.span)).parts[len(entries)] = place
        self.values[name] = (*entries, value)


@dataclass
class Binder:
    """Binds blocks to their schemas.  `after` may change a draft before it is validated (files, config.json)."""

    evaluator: Evaluator
    files: Files
    after: Callable[[Draft, Module], None]

    def draft(self, shape: Shape, block: nodes.Block, module: Module, base: Draft | None = None) -> Draft:
        """The block's values, on top of those of its base."""
        title = " ".join([block.kind, *(_label(x) for x in block.labels[:1])])
        draft = Draft(shape, Place(block.kind_span), title)
        if base is not None:
            draft.values, draft.bad = dict(base.values), set(base.bad)
            draft.place.parts = dict(base.place.parts)
        if block.labels:
            draft.put("name", _label(block.labels[0]), Place(block.labels[0].span))
        for statement in block.body.statements:
            self.statement(draft, statement, module)
        return draft

    def finish(self, draft: Draft, module: Module) -> Value:
        """The validated record, or BAD where something was reported."""
        self.after(draft, module)
        return validate(draft.shape, draft.values, draft.place, draft.bad, draft.title, self.evaluator.report)

    def statement(self, draft: Draft, statement: nodes.Statement, module: Module) -> None:
        """One statement of a block."""
        if isinstance(statement, nodes.Attr):
            self._attr(draft, statement, module)
        elif isinstance(statement, nodes.Block):
            self._block(draft, statement, module)
        elif isinstance(statement, (nodes.Rule, nodes.Objective)):
            self._rule(draft, statement, module)
        elif isinstance(statement, nodes.Flow):
            self._flow(draft, statement, module)
        elif isinstance(statement, nodes.Link):
            self._link(draft, statement, module)
        else:
            message = "imports, parameters and `let` stand at the top of a file"
            self.evaluator.report.error("E012", message, statement.span, "move this line out of the block")

    def _attr(self, draft: Draft, node: nodes.Attr, module: Module) -> None:
        known = draft.shape.fields.get(node.name)
        if self._again(draft, node.name, node.name_span):
            return
        if known is None and draft.shape.takes("rules") and node.name in draft.shape.decisions:
            self._pin(draft, node, module)
        elif known is None:
            help_ = suggestion(node.name, draft.shape.names)
            self.evaluator.report.error("E101", f"`{draft.title}` has no `{node.name}`", node.name_span, help_)
        elif known.condition:
            words = getattr(draft.shape.model, "WORDS", ())
            expr = Conditions(self.evaluator, module, draft.title, words=words).rule(node.value)
            draft.put(known.name, BAD if expr is None else expr, Place(node.value.span))
        else:
            draft.put(known.name, self._field_value(known, node, module), self.evaluator.place(node.value))

    def _again(self, draft: Draft, name: str, span: Span) -> bool:
        earlier = draft.written.setdefault(name, span)
        if earlier is span:
            return False
        more = Label(earlier, "first set here")
        self.evaluator.report.error("E103", f"`{name}` is set twice", span, "keep one of them", more)
        return True

    def _field_value(self, known: FieldShape, node: nodes.Attr, module: Module) -> Value:
        value = self.evaluator.value(node.value, module)
        if known.reference is None or value is BAD or isinstance(value, known.reference):
            return value
        kind = str(getattr(known.reference, "KIND", ""))
        if isinstance(value, Word):
            names = [n for n in module.visible() if _kind_of(module.find(n)) == kind]
            help_ = suggestion(str(value), names) if names else f"declare it: `{kind} {value} {{ ... }}`"
            return self.evaluator.report.error("E020", f"there is no {kind} `{value}`", node.value.span, help_)
        message = f"{said(value)} is not a {kind}"
        return self.evaluator.report.error("E023", message, node.value.span, f"name a `{kind}` block")

    def _pin(self, draft: Draft, node: nodes.Attr, module: Module) -> None:
        conditions = self._conditions(draft, module)
        compared = nodes.Compare(node.span, "==", nodes.Name(node.name_span, node.name), node.value)
        self._add_rule(draft, conditions, compared, node.span, module)

    def _conditions(self, draft: Draft, module: Module) -> Conditions:
        return Conditions(self.evaluator, module, f"`{draft.title}`", draft.shape.metrics)

    def _rule(self, draft: Draft, node: nodes.Rule | nodes.Objective, module: Module) -> None:
        wanted = "rules" if isinstance(node, nodes.Rule) else "objectives"
        if not draft.shape.takes(wanted):
            help_ = "rules and objectives stand in workflow blocks such as `serve`; to set a field, write `name = value`"
            self.evaluator.report.error("E012", f"`{draft.title}` takes no {wanted}", node.span, help_)
            return
        conditions = self._conditions(draft, module)
        if isinstance(node, nodes.Rule):
            self._add_rule(draft, conditions, node.value, node.span, module)
            return
        goal = conditions.goal(node.value)
        if goal is None or not any(metrics_in(goal)):
            if goal is not None:
                self.evaluator.report.error("E120", "an objective needs a metric", node.value.span)
            draft.bad.add("objectives")
            return
        text = text_of(module.source, node.span)
        objective = Objective(sense=node.sense, expr=goal, text=" ".join(text.split()), span=node.span)
        draft.append("objectives", objective, Place(node.span))

    def _add_rule(self, draft: Draft, conditions: Conditions, node: nodes.Expr, span: Span, module: Module) -> None:
        expr = conditions.rule(node)
        text = " ".join(text_of(module.source, span).split())
        rule = BAD if expr is None else Rule(expr=expr, text=text, span=span)
        draft.append("rules", rule, Place(span))

    def _block(self, draft: Draft, block: nodes.Block, module: Module) -> None:
        known = draft.shape.fields.get(block.kind)
        if known is None or known.block is None:
            self._stray(draft, block, known)
            return
        if block.base is not None:
            help_ = "declare it at the top of the file"
            self.evaluator.report.error("E104", "only blocks at the top of a file take a base", block.kind_span, help_)
        shape = shape_of(known.block)
        if not self._label_fits(block, "name" in known.block.model_fields, draft, known):
            draft.bad.add(known.name)
            return
        inner = self.draft(shape, block, module)
        value = self.finish(inner, module)
        if known.many:
            draft.append(known.name, value, inner.place)
        elif not self._again(draft, block.kind, block.kind_span):
            draft.put(known.name, value, inner.place)

    def _stray(self, draft: Draft, block: nodes.Block, known: FieldShape | None) -> None:
        if known is not None:
            message, help_ = f"`{block.kind}` is a field, not a block", f"write `{block.kind} = ...`"
        else:
            message, help_ = f"`{draft.title}` has no block `{block.kind}`", suggestion(block.kind, draft.shape.names)
        self.evaluator.report.error("E104", message, block.kind_span, help_)

    def _label_fits(self, block: nodes.Block, named: bool, draft: Draft, known: FieldShape) -> bool:
        labels = [_label(x) for x in block.labels]
        if len(labels) != int(named):
            help_ = f"write `{block.kind} NAME {{ ... }}`" if named else f"write `{block.kind} {{ ... }}`"
            message = f"`{block.kind}` needs one name" if named else f"`{block.kind}` takes no name"
            self.evaluator.report.error("E105", message, block.kind_span, help_)
            return False
        taken = [v.name for v in draft.values.get(known.name, ())] if named and known.many else []
        if labels and labels[0] in taken:
            message = f"`{block.kind} {labels[0]}` is declared twice"
            self.evaluator.report.error("E021", message, block.labels[0].span, "give one of them another name")
            return False
        return True

    def _flow(self, draft: Draft, node: nodes.Flow, module: Module) -> None:
        if not draft.shape.takes("edges"):
            self.evaluator.report.error("E012", f"`{draft.title}` takes no flow", node.span, "links are written `a <-> b`")
            return
        steps = [self._step(s, "E131") for s in node.steps]
        if None in steps:
            draft.bad.add("edges")
            return
        for source, target in zip(steps, steps[1:], strict=False):
            edge = self._edge(draft.shape.member("edges"), "flow", node.body, node.span, module, source, target)
            draft.append("edges", edge, Place(node.span, {"source": Place(node.span)}))

    def _link(self, draft: Draft, node: nodes.Link, module: Module) -> None:
        if not draft.shape.takes("links"):
            help_ = "links join the machines of a `cluster`; a flow is written `a -> b`"
            self.evaluator.report.error("E012", f"`{draft.title}` takes no link", node.span, help_)
            return
        left, right = self._step(node.left, "E130"), self._step(node.right, "E130")
        if left is None or right is None:
            draft.bad.add("links")
            return
        value = self._edge(draft.shape.member("links"), "link", node.body, node.span, module, left, right)
        parts = {"left": Place(node.left.span), "right": Place(node.right.span)}
        draft.append("links", value, Place(node.span, parts))

    def _step(self, node: nodes.Expr, code: str) -> str | None:
        if isinstance(node, nodes.Name):
            return node.name
        self.evaluator.report.error(code, "the ends of an arrow are names", node.span, "such as `prefill -> decode`")
        return None

    def _edge(
        self, model: type[Ir], title: str, body: nodes.Body | None, span: Span, module: Module, *ends: str | None
    ) -> Value:
        draft = Draft(shape_of(model), Place(span), title)
        end_fields = [n for n in model.model_fields if n in ("source", "target", "left", "right")]
        for name, value in zip(end_fields, ends, strict=True):
            draft.put(name, value, Place(span))
        for statement in body.statements if body else ():
            self.statement(draft, statement, module)
        return self.finish(draft, module)


def _label(node: nodes.Name | nodes.String) -> str:
    return node.name if isinstance(node, nodes.Name) else node.value


def _kind_of(entry: Entry | None) -> str:
    return entry.node.kind if entry is not None and isinstance(entry.node, nodes.Block) else ""

