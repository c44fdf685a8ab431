"""Which plans stock vLLM can run.  What a planner needs to know before it plans is in `hexdsl.ir.engine`."""

from __future__ import annotations

from collections.abc import Iterator

from hexdsl.ir.engine import LIMITS
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.target import Target
from hexdsl.targets.base import Reason
from hexdsl.targets.devices import gpu_kinds, is_cpu
from hexdsl.targets.engines.vllm.formats import FLASHINFER_SM, KV_BITS, PER_HEAD, why_not
from hexdsl.targets.engines.vllm.place import PORTS_PER_REPLICA, hands_over, kinds_of_halves, parts_of

CPU_HEAD_DIMS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Widths of a head for which vLLM's CPU attention is written."""

LAST_PORT = 65535
ADD_A_RULE = "add a rule on `tp`"


def supports(plan: Plan, target: Target) -> tuple[Reason, ...]:
    """Every reason against the plan: workflow, model, number formats, shapes of replicas, phases, ports."""
    if not isinstance(plan.workflow, Serve):
        return (Reason(f"it serves models, and `{plan.name}` is a `{plan.workflow.KIND}` workflow"),)
    if not plan.replicas:
        return (Reason("the plan has no replicas"),)
    model = plan.workflow.model
    shapes = (reason for replica in plan.replicas for reason in _replica(replica, plan, model))
    travel = (*_chains(plan), *_phases(plan), *_halves(plan, model), *_handovers(plan))
    return (*_model(model, plan), *_formats(plan, model), *shapes, *travel, *_words(model, target),
            *_ports(plan, target))  # fmt: skip


def _chains(plan: Plan) -> Iterator[Reason]:
    if plan.chains is not None:
        yield Reason("it cannot choose a chain of peers for each request", "use `target torch`, or leave out `routing`")


def _model(model: Model, plan: Plan) -> Iterator[Reason]:
    if model.path is None:
        help_ = f'name the folder of the weights in model `{model.name}`: path = "..."'
        yield Reason(f"model `{model.name}` does not say where its weights are", help_)
    if model.attention.kind != "dense":
        yield Reason(f"model `{model.name}` has {model.attention.kind} attention, which vLLM does not run")
    width = model.head_dim or model.hidden // model.heads
    on_cpu = any(is_cpu(gpu) for gpu in _kinds_in_use(plan).values())
    if on_cpu and model.kv_lora_rank is None and width not in CPU_HEAD_DIMS:
        known = ", ".join(map(str, CPU_HEAD_DIMS))
        yield Reason(f"on CPUs it has no attention for heads of width {width}", f"it has those of {known}")


def _kinds_in_use(plan: Plan) -> dict[str, Gpu]:
    used = sorted({stage.gpu for replica in plan.replicas for stage in replica.stages})
    return {name: gpu_kinds(plan)[name] for name in used}


def _formats(plan: Plan, model: Model) -> Iterator[Reason]:
    precision = {p.gpu: p for p in plan.precision}
    for name, gpu in _kinds_in_use(plan).items():
        missing = why_not(precision[name], gpu)
        if missing:
            help_ = f"write `weights = ...`, `activations = ...` or `kv = ...` in model `{model.name}`"
            yield Reason(f"it {missing} ({name})", help_)
        elif hands_over(plan) and _cannot_travel(precision[name].kv, gpu):
            kv = precision[name].kv
            yield Reason(f"a KV cache in {kv} cannot be handed over ({name})", f"write another `kv` than {kv}")


def _cannot_travel(kv: str, gpu: Gpu) -> bool:
    return kv in PER_HEAD or (is_cpu(gpu) and kv == "fp8")


def _replica(replica: Replica, plan: Plan, model: Model) -> Iterator[Reason]:
    kinds = sorted({stage.gpu for stage in replica.stages})
    if len({is_cpu(gpu_kinds(plan)[name]) for name in kinds}) > 1:
        yield Reason(f"replica `{replica.name}` mixes CPUs and GPUs ({', '.join(kinds)})")
    for what, fix in LIMITS["vllm"].against(parts_of(replica, plan), replica.role):
        yield Reason(f"replica `{replica.name}` {what}", fix)
    for tp in sorted({stage.tp for stage in replica.stages}):
        yield from _tensor_parallel(tp, replica, model)


def _tensor_parallel(tp: int, replica: Replica, model: Model) -> Iterator[Reason]:
    kv_heads = tp if model.kv_lora_rank else model.kv_heads or model.heads
    if model.heads % tp or model.ffn % tp or (kv_heads % tp and tp % kv_heads):
        sizes = f"{model.heads} heads, {kv_heads} KV heads and a feed-forward width of {model.ffn}"
        yield Reason(f"{tp} GPUs of replica `{replica.name}` cannot share {sizes} evenly", ADD_A_RULE)
    elif model.weights.group and model.ffn // tp % model.weights.group:
        groups = f"groups of {model.weights.group} weights"
        yield Reason(f"{tp} GPUs of replica `{replica.name}` cannot share {groups} evenly", ADD_A_RULE)


def _phases(plan: Plan) -> Iterator[Reason]:
    """A prompt that was prefilled needs somewhere to go, and the other way round."""
    roles = {replica.role for replica in plan.replicas}
    for one, other in (("prefill", "decode"), ("decode", "prefill")):
        if one in roles and other not in roles:
            yield Reason(f"the plan has replicas that {one} and none that {other}")


def _halves(plan: Plan, model: Model) -> Iterator[Reason]:
    """KV caches travel only between instances with the same formats and the same attention kernels."""
    names = kinds_of_halves(plan)
    gpus = [gpu_kinds(plan)[name] for name in names]
    if len(gpus) < 2:
        return
    if len({(p.activations, p.kv) for p in plan.precision if p.gpu in names}) > 1:
        yield Reason(
            f"a KV cache cannot go from one format to another ({', '.join(names)})", "name `activations` and `kv`"
        )
    kernels = model.kv_lora_rank is None and all((gpu.sm or 0) >= FLASHINFER_SM for gpu in gpus)
    if not kernels:
        text = f"it has no attention kernel for all of {', '.join(names)}, between which KV caches would travel"
        yield Reason(text, "keep prefill and decode on one kind of GPU")


def _handovers(plan: Plan) -> Iterator[Reason]:
    formats = {p.gpu: p.kv for p in plan.precision}
    made = {replica.name: formats[replica.stages[0].gpu] for replica in plan.replicas}
    for h in plan.handovers:
        if h.bits < KV_BITS[made[h.source]]:
            text = f"it sends KV caches as they are, and the plan sends those of `{h.source}` in {h.bits} bits"
            yield Reason(text, "write `kv = fp8` in the model, which makes them smaller on the GPUs too")


def _words(model: Model, target: Target) -> Iterator[Reason]:
    """No command line can hold a NUL character."""
    if any("\0" in word for word in (model.path or "", *target.env.values())):
        yield Reason("a path or an environment variable holds a NUL character")


def _ports(plan: Plan, target: Target) -> Iterator[Reason]:
    last = target.ports + PORTS_PER_REPLICA * len(plan.replicas)
    if last > LAST_PORT:
        yield Reason(f"it needs the ports {target.ports} to {last}, and there are {LAST_PORT}", "lower `ports`")
