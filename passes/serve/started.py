"""Replicas that may be started on machines that came: copies of those that run, on GPUs of the same kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hexdsl.ir.plan import Machine, Plan, Replica


def new_replicas(before: Plan, now: Plan) -> tuple[Replica, ...]:
    """Copies of running replicas on the machines that `now` has and `before` had not, as many as fit.

    Only replicas on machines of one group are copied; of several the one comes first that serves most for each GPU.
    """
    known = {m.id for m in before.machines} | set(before.lost)
    free = {m.id: [d.id for d in m.devices] for m in now.machines if m.id not in known}
    groups = {m.id: m.group for m in (*before.machines, *now.machines)}
    models = sorted(before.replicas, key=lambda r: -r.capacity_req_per_s / len(r.devices))
    names = _names(before)
    return tuple(_copies(models, free, groups, now.machines, names))


def _names(before: Plan) -> Iterator[str]:
    used = {r.name for r in before.replicas}
    number = 0
    while True:
        if f"r{number}" not in used:
            yield f"r{number}"
        number += 1


def _copies(
    models: Sequence[Replica], free: dict[str, list[str]], groups: dict[str, str], machines: Sequence[Machine],
    names: Iterator[str],
) -> Iterator[Replica]:  # fmt: skip
    for model in models:
        places = {groups[s.machine] for s in model.stages}
        while len(places) == 1 and (found := _placed(model, free, [m for m in machines if m.group in places])):
            yield found.with_(name=next(names))


def _placed(model: Replica, free: dict[str, list[str]], machines: Sequence[Machine]) -> Replica | None:
    """The replica on free GPUs, which it takes; each of its machines becomes one of these."""
    needs = {name: sum(s.tp for s in model.stages if s.machine == name) for name in _machines(model)}
    where: dict[str, str] = {}
    for name, gpus in needs.items():
        fits = (m.id for m in machines if len(free.get(m.id, ())) >= gpus and m.id not in where.values())
        machine = next(fits, None)
        if machine is None:
            return None
        where[name] = machine
    stages = []
    for stage in model.stages:
        machine = where[stage.machine]
        taken, free[machine] = free[machine][: stage.tp], free[machine][stage.tp :]
        stages.append(stage.with_(machine=machine, devices=tuple(taken)))
    return model.with_(stages=tuple(stages), predictions=())


def _machines(replica: Replica) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.machine for s in replica.stages))
