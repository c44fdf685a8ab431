"""A plan over chains of peers as processes: one per peer, which holds its layers for every request, and a router."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hexdsl.ir.launch import File, Port, Process, Ready
from hexdsl.ir.plan import Plan, Stage
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import address, gpu_kinds, is_cpu, layers_of
from hexdsl.targets.engines.torch.config import pool_and_limits
from hexdsl.targets.engines.torch.place import Site, served
from hexdsl.targets.engines.torch.supports import DTYPES
from hexdsl.targets.service import FORMAT_VERSION, loading_s, router_file


@dataclass(frozen=True, slots=True)
class PeerPlace(Site):
    """A peer: the stage that it holds, and the port where it takes activations."""

    stage: Stage
    wire_port: int


def peers_of(plan: Plan, target: Target) -> tuple[PeerPlace, ...]:
    """A place for every peer; ports follow the router's: first those for requests, then those for activations."""
    pairs = [(replica, stage) for replica in plan.replicas for stage in replica.stages]
    kinds = gpu_kinds(plan)
    return tuple(
        PeerPlace(
            name=f"peer-{i}",
            replica=replica,
            stage=stage,
            host=address(plan.machine(stage.machine), target),
            port=target.ports + 1 + i,
            wire_port=target.ports + 1 + len(pairs) + i,
            device="cpu" if is_cpu(kinds[stage.gpu]) else "cuda",
        )
        for i, (replica, stage) in enumerate(pairs)
    )


def peer_config(plan: Plan, target: Target, place: PeerPlace, weights: str) -> File:
    """What one peer is: its layers, KV pool, limits and addresses."""
    replica, model = place.replica, served(plan)
    dtype = next(DTYPES[p.weights] for p in plan.precision if p.gpu == place.stage.gpu)
    config = {
        "format_version": FORMAT_VERSION,
        "peer": place.stage.machine,
        "model": {"name": model.name, "path": weights, "dtype": dtype},
        "layers": list(place.stage.layers),
        "total_layers": replica.stages[-1].layers[1],
        **pool_and_limits(plan, target, replica),
        "device": place.device,
        "host": place.host,
        "port": place.port,
        "wire_port": place.wire_port,
        "kernels": [],
    }
    return File(path=place.config, text=json.dumps(config, indent=2) + "\n")


def chain_router(plan: Plan, target: Target, places: Sequence[PeerPlace]) -> File:
    """The endpoint, who holds which layers, how far they are from each other, and each replica's turns."""
    assert plan.chains is not None
    by_machine = {place.stage.machine: place for place in places}
    holders = [
        {
            "name": h.machine,
            "host": by_machine[h.machine].host,
            "port": by_machine[h.machine].wire_port,
            "layers": list(h.layers),
            "layer_s": float(f"{h.layer_s:.6g}"),
            "seats": h.seats,
            "place": h.place,
        }
        for h in plan.chains.holders
    ]
    delays = [[None if d is None else float(f"{d:.6g}") for d in row] for row in plan.chains.delays_s]
    chains = {
        "cost": plan.chains.cost,
        "layers": plan.chains.layers,
        "holders": holders,
        "delays_s": delays,
        "turns": _turns(plan),
    }
    listed = [{"name": place.stage.machine, "url": place.url, "weight": 1.0} for place in places]
    seats = sum(target.max_queue + r.max_batch for r in plan.replicas)
    return router_file(plan, target, "chains", {"replicas": listed, "chains": chains}, seats)


def _turns(plan: Plan) -> list[dict[str, Any]]:
    """Each replica as a chain, with its share of the requests."""
    shares = {route.replica: float(f"{route.weight:.6g}") for route in plan.routes}
    return [
        {"chain": [stage.machine for stage in replica.stages], "weight": shares[replica.name]}
        for replica in plan.replicas
        if shares.get(replica.name, 0.0) > 0
    ]


def peer_process(plan: Plan, target: Target, place: PeerPlace) -> Process:
    """The process of one peer."""
    device = next(d for d in plan.machine(place.stage.machine).devices if d.id == place.stage.devices[0])
    default = {"OMP_NUM_THREADS": "1"} if place.device == "cpu" else {}
    where = {} if place.device == "cpu" else {"CUDA_VISIBLE_DEVICES": str(device.index)}
    return Process(
        name=place.name,
        role="worker",
        host=plan.machine(place.stage.machine).host,
        gpus=() if place.device == "cpu" else (device.index,),
        argv=("python", "-m", "hexdsl.runtime.chain_peer", "--config", place.config),
        env=tuple(sorted((default | target.env | where).items())),
        ports=(
            Port(host=place.host, port=place.port, use=f"requests to {place.stage.machine}"),
            Port(host=place.host, port=place.wire_port, use=f"activations for {place.stage.machine}"),
        ),
        ready=Ready(url=f"{place.url}/health", timeout_s=loading_s(place.replica)),
        group=place.name,
        restarts=target.restarts,
        comment=f"{place.stage.machine} ({place.replica.name}): {layers_of(place.stage)} on {device.id} ({device.gpu})",
    )
