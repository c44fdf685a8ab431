"""The cluster and the plan as a graph: Graphviz DOT, or a tree for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hexdsl.ir.plan import Machine, Plan, Replica, Stage
from hexdsl.ir.spec import Workflow
from hexdsl.report import figures as say
from hexdsl.report.topology import Group, cluster_of, groups, joins

ROUTER = "router"
HEAD = (
    "  graph [rankdir=LR, compound=true, fontname=Helvetica];",
    "  node [shape=box, style=rounded, fontname=Helvetica, fontsize=11];",
    "  edge [fontname=Helvetica, fontsize=10];",
)


def graph_dot(subject: Plan | Workflow) -> str:
    """Graphviz DOT: dashed edges are links of the hardware, arrows are the way of a request through the plan."""
    plan = subject if isinstance(subject, Plan) else None
    lines = [f"digraph {quoted(subject.name)} {{", *HEAD]
    for number, group in enumerate(groups(subject)):
        lines += _indented(_cluster(number, group, plan))
    lines += _indented(_links(subject))
    if plan is not None:
        lines += _indented(_flow(plan))
    return "\n".join([*lines, "}"]) + "\n"


def quoted(text: str) -> str:
    """A DOT string: quotes and backslashes of the text stay text."""
    escaped = say.clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _cluster(number: int, group: Group, plan: Plan | None) -> Iterator[str]:
    yield f"subgraph cluster_{number} {{"
    yield f"  label={quoted(group.title)};"
    inside = f"\n{say.bandwidth(group.inside)} inside a machine" if group.inside and group.gpus > 1 else ""
    yield f"  {quoted(_group_id(group.name))} [shape=plain, label={quoted(group.name + inside)}];"
    if plan is not None:
        for index, machine in enumerate(group.machines):
            yield from _indented(_machine(f"{number}_{index}", machine, plan))
    yield "}"


def _machine(number: str, machine: Machine, plan: Plan) -> Iterator[str]:
    yield f"subgraph cluster_{number} {{"
    yield f"  label={quoted(_machine_title(machine))};"
    for replica, index, stage in _stages_on(machine, plan):
        words = f"{_stage_name(replica, index)}\nlayers {say.layers(stage)}\n{say.gpus(stage)}: {_indices(stage)}"
        yield f"  {quoted(_stage_id(replica, index))} [label={quoted(words)}];"
    if idle := say.idle_devices(machine, plan):
        words = f"{say.count(len(idle), 'GPU')} idle"
        yield f"  {quoted(f'idle {machine.id}')} [style=dotted, label={quoted(words)}];"
    yield "}"


def _machine_title(machine: Machine) -> str:
    return machine.id if machine.host == machine.id else f"{machine.id} ({machine.host})"


def _stages_on(machine: Machine, plan: Plan) -> Iterator[tuple[Replica, int, Stage]]:
    for replica in plan.replicas:
        for index, stage in enumerate(replica.stages):
            if stage.machine == machine.id:
                yield replica, index, stage


def _stage_name(replica: Replica, index: int) -> str:
    return f"{replica.name} stage {index + 1}" if len(replica.stages) > 1 else replica.name


def _stage_id(replica: Replica, index: int) -> str:
    return f"stage {replica.name} {index}"


def _group_id(name: str) -> str:
    return f"group {name}"


def _indices(stage: Stage) -> str:
    """`0-3`: the GPUs of a stage within its machine."""
    return say.device_ranges(stage.devices).removeprefix(f"{say.clean(stage.machine)}:")


def _links(subject: Plan | Workflow) -> Iterator[str]:
    known = {g.name for g in groups(subject)}
    for join in joins(subject):
        if join.kind != "inside" and {join.left, join.right} <= known:
            left, right = quoted(_group_id(join.left)), quoted(_group_id(join.right))
            yield f"{left} -> {right} [dir=none, style=dashed, constraint=false, label={quoted(join.label)}];"


def _flow(plan: Plan) -> Iterator[str]:
    if not plan.replicas:
        return
    yield f"{ROUTER} [shape=ellipse];"
    for replica in plan.replicas:
        share = say.share_text((replica,), plan)
        yield f"{ROUTER} -> {quoted(_stage_id(replica, 0))} [label={quoted(share)}];"
        for index in range(1, len(replica.stages)):
            yield f"{quoted(_stage_id(replica, index - 1))} -> {quoted(_stage_id(replica, index))};"


def graph_text(subject: Plan | Workflow) -> str:
    """A tree: groups, machines and who holds their GPUs; then the links; then the way of a request."""
    plan = subject if isinstance(subject, Plan) else None
    lines = [say.clean(cluster_of(subject).name), *_tree([(g.title, _machine_lines(g, plan)) for g in groups(subject)])]
    if links := joins(subject):
        lines += ["links", *_tree([(say.clean(f"{j.words}: {j.label}"), ()) for j in links])]
    if plan is not None and plan.replicas:
        lines += [ROUTER, *_tree([(_way(r, plan), []) for r in plan.replicas])]
    return "\n".join(lines) + "\n"


def _tree(branches: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    for i, (title, leaves) in enumerate(branches):
        last = i == len(branches) - 1
        yield f"{'└─' if last else '├─'} {title}"
        for k, leaf in enumerate(leaves):
            yield f"{'  ' if last else '│ '} {'└─' if k == len(leaves) - 1 else '├─'} {leaf}"


def _machine_lines(group: Group, plan: Plan | None) -> list[str]:
    if plan is None:
        return []
    return [say.clean(f"{_machine_title(m)}: {_holdings(m, plan)}") for m in group.machines]


def _holdings(machine: Machine, plan: Plan) -> str:
    held = [f"{_stage_name(r, i)} on {_indices(s)} (layers {say.layers(s)})" for r, i, s in _stages_on(machine, plan)]
    idle = say.idle_devices(machine, plan)
    return ", ".join([*held, f"{len(idle)} idle"] if idle else held) or "no GPUs"


def _way(replica: Replica, plan: Plan) -> str:
    places = " -> ".join(say.device_ranges(s.devices) for s in replica.stages)
    return say.clean(f"{say.share_text((replica,), plan)} to {replica.name}: {places}")
