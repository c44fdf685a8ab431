"""What must hold of a serving plan, in plain code from the spec: a second opinion beside `verify`."""

from __future__ import annotations

from collections.abc import Iterator

from hexdsl.costs.arch import embedding_params, kv_values, slice_params, tp_divides
from hexdsl.costs.memory import Slice as Part
from hexdsl.costs.memory import activation_bytes, comm_bytes, kv_token_bytes, weight_bytes
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.adapter import arch_of, arrivals_of, engine_of, formats_of, gpu_of

__all__ = ["faults_in"]


def faults_in(plan: Plan) -> Iterator[str]:
    serve = plan.workflow
    assert isinstance(serve, Serve)
    gpus = {
        f"{n.name}-{i}:{k}": (n, f"{n.name}-{i}")
        for n in serve.on.nodes
        for i in range(n.count)
        for k in range(n.gpus.count)
    }
    used: set[str] = set()
    cost = 0.0
    for replica in plan.replicas:
        yield from _replica(replica, serve, plan.context)
        for stage in replica.stages:
            for device in stage.devices:
                if device in used or gpus[device][1] != stage.machine or gpus[device][0].gpus.gpu.name != stage.gpu:
                    yield f"{device} is taken twice or is not there"
                used.add(device)
                price = gpus[device][0].price
                cost += (price if price is not None else gpus[device][0].gpus.gpu.price or 0.0) * 3600
        yield from _linked(replica, serve, gpus)
    if abs(cost - plan.cost_usd_per_h) > 1e-6 * max(1.0, cost):
        yield f"{cost} is not {plan.cost_usd_per_h}"
    served, arrivals = sum(r.rate_req_per_s for r in plan.replicas), arrivals_of(serve)
    if arrivals is not None and served > arrivals * (1 + 1e-9):
        yield "more is served than arrives"
    if abs(sum(r.weight for r in plan.routes) - 1) > 1e-9:
        yield "weights"
    if not all(r.holds for r in plan.rules) or len(plan.rules) != len(serve.rules):
        yield "a rule is broken or was not looked at"


def _replica(replica: Replica, serve: Serve, context: int) -> Iterator[str]:
    arch, engine = arch_of(serve.model), engine_of(serve)
    at = 0
    for stage in replica.stages:
        node = next(n for n in serve.on.nodes if stage.machine.rpartition("-")[0] == n.name)
        gpu, formats = gpu_of(node.gpus.gpu), formats_of(node.gpus.gpu, serve.model)
        start, stop = stage.layers
        if start != at or stop <= start or not tp_divides(arch, len(stage.devices)):
            yield f"stage {stage.layers} x {len(stage.devices)}"
        at = stop
        part = Part(start, stop, stage.tp)
        tables = (start == 0) + (stop == arch.layers) - (start == 0 and stop == arch.layers and arch.tied)
        weights = (
            float(slice_params(arch, start, stop)) * formats.weight_bytes
            + tables * embedding_params(arch) * formats.wide_bytes
        )
        shards = min(stage.tp, 1 if arch.latent else arch.kv_heads)
        kv = replica.kv_tokens * (stop - start) * kv_values(arch) * formats.kv_bytes / shards
        assert float(weight_bytes(arch, formats, part)) * stage.tp == _near(weights)
        assert float(kv_token_bytes(arch, formats, part)) * replica.kv_tokens == _near(kv)
        rest = float(activation_bytes(arch, formats, part, engine)) + comm_bytes(gpu, stage.tp) + gpu.reserve_bytes
        if weights / stage.tp + kv + rest > min(gpu.memory_bytes, gpu.usable_bytes or 1e30) * serve.utilization + 16:
            yield f"{stage.machine} overflows"
    mean = min(context, sum(x.mean for x in (serve.workload.prompt, serve.workload.output)) if serve.workload else 1200)
    if at != arch.layers or replica.kv_tokens < context or replica.kv_tokens < replica.max_batch * mean - 1e-6:
        yield f"{replica.name} holds too few layers or tokens"
    if not 1 <= replica.max_batch <= serve.max_batch or replica.rate_req_per_s > replica.capacity_req_per_s * (
        1 + 1e-9
    ):
        yield f"{replica.name} runs too much"


def _linked(replica: Replica, serve: Serve, gpus: object) -> Iterator[str]:
    reach = _reach(serve)
    for a, b in zip(replica.stages, replica.stages[1:], strict=False):
        left, right = (s.machine.rpartition("-")[0] for s in (a, b))
        if a.machine != b.machine and right not in reach[left]:
            yield f"{a.machine} cannot reach {b.machine}"


def _reach(serve: Serve) -> dict[str, set[str]]:
    """Groups that another machine of a group can reach, itself only where its machines have a network."""
    ends = [{link.left, link.right} for link in serve.on.links]
    found = {}
    for group in serve.on.nodes:
        seen, todo = {group.name}, [group.name]
        while todo:
            name = todo.pop()
            fresh = {n for e in ends if name in e for n in e} - seen
            seen, todo = seen | fresh, todo + sorted(fresh)
        within = any(w.name == group.name for w in serve.on.within) or group.nic is not None
        found[group.name] = seen if within else seen - {group.name}
    return found


def _near(value: float) -> object:
    import pytest

    return pytest.approx(value, rel=1e-9)
