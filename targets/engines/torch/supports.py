"""Which plans the `torch` engine can run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hexdsl.ir.plan import Plan, Precision, Replica
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.target import Target
from hexdsl.targets.base import Reason
from hexdsl.targets.devices import gpu_kinds, is_cpu

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Number formats of the plan to torch's names."""

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
LAST_PORT = 65535
KV_BITS = (4, 8, 16, 32)
"""Bits of a value of the KV cache on its way between replicas; 16 and more mean as it is."""


def supports(plan: Plan, target: Target) -> tuple[Reason, ...]:
    """Every reason against the plan: workflow, model, number formats, devices, phases, ports."""
    if not isinstance(plan.workflow, Serve):
        return (Reason(f"it serves models, and `{plan.name}` is a `{plan.workflow.KIND}` workflow"),)
    if not plan.replicas:
        return (Reason("the plan has no replicas"),)
    model = plan.workflow.model
    chains = _chains(plan) if plan.chains else ()
    own = (*_model(model), *_replicas(plan, model), *chains, *_phases(plan))
    return (*own, *_words(model, target), *_ports(plan, target))


def _model(model: Model) -> Iterator[Reason]:
    if model.path is None:
        help_ = f'name the folder of the weights in model `{model.name}`: path = "..."'
        yield Reason(f"model `{model.name}` does not say where its weights are", help_)
    if model.family is not None and model.family not in FAMILIES:
        yield Reason(f"it does not know the architecture {model.family}", "it knows " + ", ".join(FAMILIES))
    beyond = {"a mixture of experts": model.experts, "latent attention": model.kv_lora_rank}
    for what, present in beyond.items():
        if present:
            yield Reason(f"model `{model.name}` has {what}, which it does not run yet")
    if model.attention.kind != "dense":
        yield Reason(f"model `{model.name}` has {model.attention.kind} attention, which it does not run yet")


def _replicas(plan: Plan, model: Model) -> Iterator[Reason]:
    kinds, formats = gpu_kinds(plan), {p.gpu: p for p in plan.precision}
    used = sorted({stage.gpu for replica in plan.replicas for stage in replica.stages})
    for gpu in used:
        yield from _format(formats[gpu], model.name)
    for replica in plan.replicas:
        gpus = sorted({stage.gpu for stage in replica.stages})
        if len({is_cpu(kinds[gpu]) for gpu in gpus}) > 1:
            yield Reason(f"replica `{replica.name}` mixes CPUs and GPUs ({', '.join(gpus)})")
        if len({formats[gpu].weights for gpu in gpus}) > 1:
            yield Reason(f"replica `{replica.name}` has different weight formats on {', '.join(gpus)}")
        yield from _tensor_parallel(replica, model)


def _format(precision: Precision, model: str) -> Iterator[Reason]:
    """The engine keeps weights, activations and KV cache in one format."""
    formats = (precision.weights, precision.activations, precision.kv)
    unknown = [f for f in dict.fromkeys(formats) if f not in DTYPES]
    if unknown:
        yield Reason(f"it does not run {' and '.join(unknown)} yet ({precision.gpu})", "it runs " + ", ".join(DTYPES))
    elif len(set(formats)) > 1:
        words = f"weights in {formats[0]}, activations in {formats[1]} and KV cache in {formats[2]} on {precision.gpu}"
        help_ = f"write `weights = {formats[1]}` and `kv = {formats[1]}` in model `{model}`"
        yield Reason(f"it keeps one number format, and the plan has {words}", help_)


def _tensor_parallel(replica: Replica, model: Model) -> Iterator[Reason]:
    kv_heads = model.kv_heads or model.heads
    for tp in sorted({stage.tp for stage in replica.stages}):
        if model.heads % tp or model.ffn % tp or (kv_heads % tp and tp % kv_heads):
            sizes = f"{model.heads} heads, {kv_heads} KV heads and a feed-forward width of {model.ffn}"
            yield Reason(f"{tp} GPUs of replica `{replica.name}` cannot share {sizes} evenly", "add a rule on `tp`")


def _chains(plan: Plan) -> Iterator[Reason]:
    """Peers of chains have one GPU and one stage each, and speak one number format."""
    stages = [stage for replica in plan.replicas for stage in replica.stages]
    wide = next((s for s in stages if s.tp > 1), None)
    if wide is not None:
        help_ = "write `routing = weighted`, or peers with one GPU each"
        yield Reason(f"a peer of a chain has one GPU, and {wide.machine} shares its layers among {wide.tp}", help_)
    machines = Counter(s.machine for s in stages)
    twice = next((m for m, n in machines.items() if n > 1), None)
    if twice is not None:
        yield Reason(f"a peer of a chain holds one stage, and {twice} holds {machines[twice]}")
    formats = {p.gpu: p.weights for p in plan.precision}
    used = sorted({formats[s.gpu] for s in stages})
    if len(used) > 1:
        yield Reason(f"peers of a chain speak one number format, and the plan has {' and '.join(used)}")


def _phases(plan: Plan) -> Iterator[Reason]:
    """A prompt that was prefilled needs somewhere to go, and the other way round."""
    roles = {replica.name: replica.role for replica in plan.replicas}
    for one, other in (("prefill", "decode"), ("decode", "prefill")):
        if one in roles.values() and other not in roles.values():
            yield Reason(f"the plan has replicas that {one} and none that {other}")
    for h in plan.handovers:
        if (roles.get(h.source), roles.get(h.target)) != ("prefill", "decode"):
            yield Reason(f"KV caches cannot go from `{h.source}` to `{h.target}`: these do not prefill and decode")
        elif h.bits not in KV_BITS:
            bits = ", ".join(map(str, KV_BITS))
            yield Reason(f"it sends KV caches in {bits} bits a value, not in the {h.bits} from `{h.source}`")


def _words(model: Model, target: Target) -> Iterator[Reason]:
    """No command line can hold a NUL character."""
    if any("\0" in word for word in (model.path or "", *target.env.values())):
        yield Reason("a path or an environment variable holds a NUL character")


def _ports(plan: Plan, target: Target) -> Iterator[Reason]:
    parts = sum(len(r.stages) for r in plan.replicas) if plan.chains else len(plan.replicas)
    last = target.ports + 2 * parts
    if last > LAST_PORT:
        yield Reason(f"it needs the ports {target.ports} to {last}, and there are {LAST_PORT}", "lower `ports`")
