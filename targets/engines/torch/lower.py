"""A serve plan as processes: one per rank of each replica, and a router in front."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hexdsl.ir.launch import Check, File, Launch, Port, Process, Ready
from hexdsl.ir.plan import Device, Handover, Plan, Replica, Stage
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import gpu_kinds, is_cpu, layers_of, machines_in_use
from hexdsl.targets.engines.torch.chains import chain_router, peer_config, peer_process, peers_of
from hexdsl.targets.engines.torch.config import engine_config
from hexdsl.targets.engines.torch.place import Place, places_of, served
from hexdsl.targets.service import endpoint, loading_s, reasons_of, router_config, router_process, weights_check

MODULES = ("hexdsl.runtime.worker", "torch", "transformers", "safetensors", "starlette", "uvicorn", "httpx")
PLAIN_BITS = 16
"""From so many bits on, a KV cache travels as it is."""


def lower(plan: Plan, target: Target, folder: Path) -> Launch:
    """The process table of a serve plan.  `folder` is the spec's, absolute; `~` in paths is left to the worker."""
    weights = weights_path(served(plan), folder)
    ranks, files = (_peers if plan.chains else _replicas)(plan, target, weights)
    return Launch(
        name=plan.name,
        engine=target.name,
        launcher=target.launcher.kind,
        endpoint=endpoint(target),
        processes=(*ranks, router_process(plan, target, [rank.name for rank in ranks if rank.ready])),
        files=files,
        checks=tuple(_checks(plan, weights)),
        reasons=reasons_of(plan),
    )


Parts = tuple[tuple[Process, ...], tuple[File, ...]]
"""The processes that hold the model, and the config files, the router's last."""


def _replicas(plan: Plan, target: Target, weights: str) -> Parts:
    places = places_of(plan, target)
    ranks = tuple(process for place in places for process in _ranks(plan, target, place))
    configs = tuple(engine_config(plan, target, place, weights) for place in places)
    return ranks, (*configs, router_config(plan, target, places, protocol="hexc"))


def _peers(plan: Plan, target: Target, weights: str) -> Parts:
    places = peers_of(plan, target)
    configs = tuple(peer_config(plan, target, place, weights) for place in places)
    return tuple(peer_process(plan, target, p) for p in places), (*configs, chain_router(plan, target, places))


def weights_path(model: Model, folder: Path) -> str:
    """The path of the weights as the worker gets it: absolute, or with `~` at its beginning."""
    assert model.path is not None, "`supports` lets no model without a path through"
    return model.path if model.path.startswith("~") else os.path.normpath(folder / model.path)


def _ranks(plan: Plan, target: Target, place: Place) -> Iterator[Process]:
    for rank, (stage, device) in enumerate(_devices(plan, place.replica)):
        yield Process(
            name=f"{place.name}-rank-{rank}",
            role="worker",
            host=plan.machine(stage.machine).host,
            gpus=() if place.device == "cpu" else (device.index,),
            rank=rank,
            argv=("python", "-m", "hexdsl.runtime.worker", "--config", place.config, "--rank", str(rank)),
            env=_environment(target, place, device),
            ports=_rank_0_ports(place) if rank == 0 else (),
            ready=Ready(url=f"{place.url}/health", timeout_s=loading_s(place.replica)) if rank == 0 else None,
            group=place.name,
            restarts=target.restarts,
            comment=_what_it_holds(plan, place.replica, stage, device),
        )


def _devices(plan: Plan, replica: Replica) -> Iterator[tuple[Stage, Device]]:
    """The devices in the order of the ranks, each with its stage."""
    for stage in replica.stages:
        known = {device.id: device for device in plan.machine(stage.machine).devices}
        yield from ((stage, known[name]) for name in stage.devices)


def _environment(target: Target, place: Place, device: Device) -> tuple[tuple[str, str], ...]:
    """The target's variables win over our defaults, but not over where the ranks meet and what they run on."""
    where = {"MASTER_ADDR": place.host, "MASTER_PORT": str(place.meeting_port)}
    if place.device == "cpu":
        default = {"OMP_NUM_THREADS": "1"}
    else:
        default, where = {}, where | {"CUDA_VISIBLE_DEVICES": str(device.index)}
    return tuple(sorted((default | target.env | where).items()))


def _rank_0_ports(place: Place) -> tuple[Port, ...]:
    return (
        Port(host=place.host, port=place.port, use=f"requests to {place.name}"),
        Port(host=place.host, port=place.meeting_port, use=f"the ranks of {place.name} meet"),
    )


def _what_it_holds(plan: Plan, replica: Replica, stage: Stage, device: Device) -> str:
    share = f", one of {stage.tp} that share them" if stage.tp > 1 else ""
    return f"{replica.name}{_phase(plan, replica)}: {layers_of(stage)} on {device.id} ({device.gpu}{share})"


def _phase(plan: Plan, replica: Replica) -> str:
    """The half of the work that a replica does, and with whom."""
    if replica.role == "prefill":
        takers = [f"{h.weight:.1%} to {h.target}{_narrow(h)}" for h in plan.handovers if h.source == replica.name]
        return f" (prefills, then hands KV caches over: {', '.join(takers) or 'to any that decodes'})"
    if replica.role == "decode":
        givers = [h.source for h in plan.handovers if h.target == replica.name]
        return f" (decodes what {', '.join(givers) or 'others'} prefilled)"
    return ""


def _narrow(handover: Handover) -> str:
    return f" in {handover.bits} bits" if handover.bits < PLAIN_BITS else ""


def _checks(plan: Plan, weights: str) -> Iterator[Check]:
    names = " ".join(MODULES)
    code = f'from importlib.util import find_spec; raise SystemExit(None in map(find_spec, "{names}".split()))'
    missing = f"this Python lacks one of {names}: install hexdsl[run], or set HEXC_PYTHON to a Python that has it"
    yield Check(kind="python", value=code, message=missing)
    yield weights_check(plan, weights)
    most = _gpus_of_a_machine(plan)
    if most:
        code = f"import torch; raise SystemExit(torch.cuda.device_count() < {most})"
        yield Check(kind="python", value=code, message=f"the plan is for {most} GPUs, and torch sees fewer here")


def _gpus_of_a_machine(plan: Plan) -> int:
    """How many GPUs a machine must have, so that the plan finds those it uses; 0 for CPUs."""
    kinds = gpu_kinds(plan)
    known = {device.id: device for machine in machines_in_use(plan) for device in machine.devices}
    used = (known[name] for replica in plan.replicas for name in replica.devices)
    return max((device.index + 1 for device in used if not is_cpu(kinds[device.gpu])), default=0)
