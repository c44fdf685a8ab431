"""From a block's statements to a checked record: fields, sub-blocks, references, rules, flows and links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Label, Span
from hexdsl.ir.spec.rule import Objective, Rule
from hexdsl.ir.values import nearest, suggestion
from hexdsl.lang import nodes
from hexdsl.lang.complaints import header, validate
from hexdsl.lang.conditions import Conditions
from hexdsl.lang.draft import Draft
from hexdsl.lang.evaluate import Evaluator, Place, Value
from hexdsl.lang.fields import misfit, unquoted
from hexdsl.lang.scope import BAD, Files, Module
from hexdsl.lang.shape import ENDS, FieldShape, Shape, shape_of
from hexdsl.lang.source import text_of


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
            draft.start_from(base)
        if block.labels:
            draft.put("name", _label(block.labels[0]), Place(block.labels[0].span))
        for statement in block.body.statements:
            self.statement(draft, statement, module)
        return draft

    def finish(self, draft: Draft, module: Module) -> Value:
        """The validated record, or BAD where something was reported.  The draft itself stays as it is."""
        made = draft.copy()
        self.after(made, module)
        return validate(made.shape, made.values, made.place, made.reported, made.title, self.evaluator.report)

    def statement(self, draft: Draft, statement: nodes.Statement, module: Module) -> None:
        """One statement of a block."""
        if isinstance(statement, nodes.Attr):
            self._attr(draft, statement, module)
        elif isinstance(statement, nodes.Block):
            self._block(draft, statement, module)
        elif isinstance(statement, nodes.Rule):
            self._rule(draft, statement, module)
        elif isinstance(statement, nodes.Objective):
            self._objective(draft, statement, module)
        elif isinstance(statement, nodes.Flow):
            self._flow(draft, statement, module)
        elif isinstance(statement, nodes.Link):
            self._link(draft, statement, module)
        else:
            message = "imports, parameters and `let` stand at the top of a file"
            self.evaluator.report.error("E012", message, statement.span, "move this line out of the block")

    # `name = value`.

    def _attr(self, draft: Draft, node: nodes.Attr, module: Module) -> None:
        known = draft.shape.fields.get(node.name)
        if self._again(draft, node.name, node.name_span):
            return
        if known is None and draft.shape.takes("rules") and node.name in draft.shape.decisions:
            self._pin(draft, node, module)
        elif known is None:
            self._unknown(draft, node)
        elif known.condition:
            expr = Conditions(self.evaluator, module, f"`{draft.title}`", words=draft.shape.conditions).rule(node.value)
            draft.put(known.name, BAD if expr is None else expr, Place(node.value.span))
        else:
            draft.put(known.name, self._field_value(known, node.value, module), self.evaluator.place(node.value))

    def _unknown(self, draft: Draft, node: nodes.Attr) -> None:
        """A name that is no field: a misspelt one is probably meant, and then not missing as well."""
        kind = draft.title.partition(" ")[0]
        metric = next((m for m in draft.shape.metrics if m.name == node.name), None)
        if node.name == "name" and "name" in draft.shape.model.model_fields:
            help_ = f"the name stands before the brace: `{kind} NAME {{ ... }}`"
        elif metric is not None:
            form = f"p95({metric.name})" if metric.stats else metric.name
            help_ = f"it comes out of the plan; what must hold is a rule, such as `{form} <= {metric.unit.example}`"
        else:
            help_ = self._guess(draft, node.name)
        self.evaluator.report.error("E101", f"`{draft.title}` has no `{node.name}`", node.name_span, help_)

    def _guess(self, draft: Draft, name: str) -> str:
        close = draft.shape.fields.get(nearest(name, draft.shape.names) or "")
        if close is not None:
            draft.guessed.add(close.name)
        return suggestion(name, draft.shape.names) if draft.shape.names else "it has no fields"

    def _again(self, draft: Draft, name: str, span: Span) -> bool:
        earlier = draft.written.setdefault(name, span)
        if earlier is span:
            return False
        more = Label(earlier, "first set here")
        self.evaluator.report.error("E103", f"`{name}` is set twice", span, "keep one of them", more)
        return True

    def _field_value(self, known: FieldShape, node: nodes.Expr, module: Module) -> Value:
        wrong = unquoted(known, node, module)
        value = BAD if wrong else self.evaluator.value(node, module)
        wrong = wrong if value is BAD else misfit(known, value, node, module)
        return self.evaluator.report.error(wrong.code, wrong.message, wrong.span, wrong.help) if wrong else value

    def _pin(self, draft: Draft, node: nodes.Attr, module: Module) -> None:
        if isinstance(node.value, (nodes.ListLit, nodes.Range)):
            help_ = f"to leave a choice, write `{node.name} in {text_of(module.source, node.value.span)}`"
            self.evaluator.report.error("E123", f"`{node.name}` is one number", node.value.span, help_)
            return
        draft.drop_pin(node.name)
        compared = nodes.Compare(node.span, "==", nodes.Name(node.name_span, node.name), node.value)
        self._add_rule(draft, compared, node.span, module)

    # Rules and objectives.

    def _rule(self, draft: Draft, node: nodes.Rule, module: Module) -> None:
        if self._takes(draft, "rules", node.span):
            self._add_rule(draft, node.value, node.span, module)

    def _objective(self, draft: Draft, node: nodes.Objective, module: Module) -> None:
        if not self._takes(draft, "objectives", node.span):
            return
        draft.drop_objectives()
        goal = self._conditions(draft, module).goal(node.value)
        made = Objective(sense=node.sense, expr=goal, text=_line(module, node.span), span=node.span) if goal else BAD
        draft.append("objectives", made, Place(node.span))

    def _takes(self, draft: Draft, wanted: str, span: Span) -> bool:
        if draft.shape.takes(wanted):
            return True
        help_ = "rules and objectives stand in workflow blocks such as `serve`; to set a field, write `name = value`"
        self.evaluator.report.error("E012", f"`{draft.title}` takes no {wanted}", span, help_)
        return False

    def _conditions(self, draft: Draft, module: Module) -> Conditions:
        return Conditions(self.evaluator, module, f"`{draft.title}`", draft.shape.metrics)

    def _add_rule(self, draft: Draft, node: nodes.Expr, span: Span, module: Module) -> None:
        expr = self._conditions(draft, module).rule(node)
        rule = BAD if expr is None else Rule(expr=expr, text=_line(module, span), span=span)
        draft.append("rules", rule, Place(span))

    # Sub-blocks.

    def _block(self, draft: Draft, block: nodes.Block, module: Module) -> None:
        known = draft.shape.fields.get(block.kind)
        if known is None or known.block is None:
            self._stray(draft, block, known)
            return
        if block.base is not None:
            help_ = "declare it at the top of the file"
            self.evaluator.report.error("E104", "only blocks at the top of a file take a base", block.kind_span, help_)
        if not self._label_fits(block, draft, known):
            draft.bad.add(known.name)
            return
        inner = self.draft(shape_of(known.block), block, module)
        value = self.finish(inner, module)
        if not known.many:
            if not self._again(draft, block.kind, block.kind_span):
                draft.put(known.name, value, inner.place)
            return
        self._drop_namesake(draft, known, _label(block.labels[0]))
        draft.append(known.name, value, inner.place)

    def _drop_namesake(self, draft: Draft, known: FieldShape, label: str) -> None:
        """A named sub-block takes the place of the base's of that name."""
        for i, entry in enumerate(draft.values.get(known.name, ())[: draft.inherited.get(known.name, 0)]):
            if entry.name == label:
                draft.drop_inherited(known.name, i)
                return

    def _stray(self, draft: Draft, block: nodes.Block, known: FieldShape | None) -> None:
        message = f"`{draft.title}` has no block `{block.kind}`"
        if known is None:
            help_ = self._guess(draft, block.kind)
        elif known.reference is not None:
            help_ = (
                f"declare `{known.kinds[0]} NAME {{ ... }}` at the top of a file, and write `{block.kind} = NAME` here"
            )
        else:
            message, help_ = f"`{block.kind}` is a field, not a block", f"write `{block.kind} = ...`"
        if known is not None:
            draft.guessed.add(known.name)
        self.evaluator.report.error("E104", message, block.kind_span, help_)

    def _label_fits(self, block: nodes.Block, draft: Draft, known: FieldShape) -> bool:
        labels = [_label(x) for x in block.labels]
        named = bool(known.block and "name" in known.block.model_fields)
        if len(labels) != int(named):
            message = f"`{block.kind}` needs one name" if named else f"`{block.kind}` takes no name"
            spot = block.labels[-1].span if labels else block.kind_span
            self.evaluator.report.error("E105", message, spot, f"write `{header(known)} {{ ... }}`")
            return False
        if not named:
            return True
        title = f"{block.kind} {labels[0]}"
        earlier = draft.written.setdefault(title, block.labels[0].span)
        if earlier is not block.labels[0].span:
            more = Label(earlier, "first declared here")
            self.evaluator.report.error(
                "E021", f"`{title}` is declared twice", block.labels[0].span, "give one of them another name", more
            )
            return False
        return True

    # Flows and links.

    def _flow(self, draft: Draft, node: nodes.Flow, module: Module) -> None:
        if not draft.shape.takes("edges"):
            help_ = "a link is written `a <-> b`" if draft.shape.takes("links") else "flows stand in workflow blocks"
            self.evaluator.report.error("E012", f"`{draft.title}` takes no flow", node.span, help_)
            return
        for left, right in zip(node.steps, node.steps[1:], strict=False):
            draft.append("edges", *self._edge(draft.shape.member("edges"), node, left, right, module))

    def _link(self, draft: Draft, node: nodes.Link, module: Module) -> None:
        if not draft.shape.takes("links"):
            help_ = "links join the machines of a `cluster`; a flow is written `a -> b`"
            self.evaluator.report.error("E012", f"`{draft.title}` takes no link", node.span, help_)
            return
        link, place = self._edge(draft.shape.member("links"), node, node.left, node.right, module)
        if link is not BAD:
            self._drop_link(draft, {link.left, link.right})
        draft.append("links", link, place)

    def _drop_link(self, draft: Draft, ends: set[str]) -> None:
        """A link takes the place of the base's between the same groups."""
        for i, entry in enumerate(draft.values.get("links", ())[: draft.inherited.get("links", 0)]):
            if {entry.left, entry.right} == ends:
                draft.drop_inherited("links", i)
                return

    def _edge(
        self, model: type[Ir], node: nodes.Flow | nodes.Link, left: nodes.Expr, right: nodes.Expr, module: Module
    ) -> tuple[Value, Place]:
        """The record of one arrow, BAD where something was reported, and where its parts stand."""
        arrow = "->" if isinstance(node, nodes.Flow) else "<->"
        draft = Draft(
            shape_of(model), Place(node.span), f"{_line(module, left.span)} {arrow} {_line(module, right.span)}"
        )
        names = next(ends for ends in ENDS if ends[0] in model.model_fields)
        for name, end in zip(names, (left, right), strict=True):
            draft.put(name, self._end(end, arrow), Place(end.span))
        for statement in node.body.statements if node.body else ():
            self.statement(draft, statement, module)
        return self.finish(draft, module), draft.place

    def _end(self, node: nodes.Expr, arrow: str) -> Value:
        if isinstance(node, nodes.Name):
            return node.name
        code = "E131" if arrow == "->" else "E130"
        return self.evaluator.report.error(code, "the ends of an arrow are names", node.span, f"such as `a {arrow} b`")


def _label(node: nodes.Name | nodes.String) -> str:
    return node.name if isinstance(node, nodes.Name) else node.value


def _line(module: Module, span: Span) -> str:
    """What the user wrote, on one line."""
    return " ".join(text_of(module.source, span).split())
