"""What engines share that put the router in front of replicas with an HTTP address each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hexdsl.ir.launch import Check, File, Port, Process, Ready
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import LOOPBACK, machines_in_use
from hexdsl.targets.engines.torch.place import served

FORMAT_VERSION = "1.0"
ROUTER = "config/router.json"
ROUTER_READY_S = 60
BODY_BYTES_PER_TOKEN, SMALLEST_BODY_LIMIT = 16, 1 << 20
LOADING_BYTES_PER_S = 100e6
"""A slow disk: how long a replica may take to load is bounded by this."""


class Served(Protocol):
    """A replica with its address."""

    @property
    def replica(self) -> Replica: ...
    @property
    def url(self) -> str: ...


def router_config(plan: Plan, target: Target, places: Sequence[Served], protocol: str = "openai") -> File:
    """The endpoint, and what share of the requests each replica gets, of those that do the same half of the work.

    `protocol` is what the replicas speak: "hexc" where they are our own engine.
    """
    routing = routing_of(plan, {place.replica.name: place.url for place in places})
    asked = {listed["name"] for listed in routing["replicas"]}
    here = [place for place in places if place.replica.name in asked]
    seats = sum(target.max_queue + p.replica.max_batch for p in here if p.replica.role != "prefill")
    return router_file(plan, target, protocol, routing, seats)


def router_file(plan: Plan, target: Target, protocol: str, routing: Mapping[str, Any], seats: int) -> File:
    """The router's config; `seats` are the requests that it answers or lets wait at once."""
    config = {
        "format_version": FORMAT_VERSION,
        "host": target.host,
        "port": target.ports,
        "model": served(plan).name,
        "protocol": protocol,
        **routing,
        "max_queue": seats,
        "max_body_bytes": max(SMALLEST_BODY_LIMIT, BODY_BYTES_PER_TOKEN * plan.context),
    }
    return File(path=ROUTER, text=json.dumps(config, indent=2) + "\n")


def routing_of(plan: Plan, urls: Mapping[str, str]) -> dict[str, Any]:
    """Who gets which requests, and who goes on with whose: the part of the router's config that may change."""
    weights = _weights(plan)
    listed = [
        {"name": r.name, "url": urls[r.name], "weight": weights[r.name], "role": r.role}
        for r in plan.replicas
        if r.name in weights
    ]
    joined = [h for h in plan.handovers if h.weight > 0 and {h.source, h.target} <= weights.keys()]
    return {"replicas": listed, "handovers": [h.model_dump(mode="json") for h in joined]}


def _weights(plan: Plan) -> dict[str, float]:
    """The share of each replica that gets requests; by the handovers to it, where no route says what it decodes."""
    shares = {route.replica: float(route.weight) for route in plan.routes}
    handed: dict[str, float] = {}
    for h in plan.handovers:
        handed[h.target] = handed.get(h.target, 0.0) + h.weight * shares.get(h.source, 0.0)
    return {name: float(f"{share:.6g}") for name, share in (handed | shares).items() if share > 0}


def router_process(plan: Plan, target: Target, after: Sequence[str]) -> Process:
    """The router, on the first machine of the plan, once the processes named in `after` are ready."""
    roles = {replica.name: replica.role for replica in plan.replicas}
    shares = ", ".join(f"{r.weight:.1%} to {r.replica}{_half(roles.get(r.replica, 'both'))}" for r in plan.routes)
    return Process(
        name="router",
        role="router",
        host=machines_in_use(plan)[0].host,
        argv=("python", "-m", "hexdsl.runtime.router", "--config", ROUTER),
        env=tuple(sorted(target.env.items())),
        ports=(Port(host=target.host, port=target.ports, use="requests to the service"),),
        ready=Ready(url=f"{endpoint(target)}/health", timeout_s=ROUTER_READY_S),
        after=tuple(after),
        group="router",
        restarts=target.restarts,
        comment="chooses a chain of peers for each request" if plan.chains else f"shares out the requests: {shares}",
    )


def _half(role: str) -> str:
    return "" if role == "both" else f" ({role})"


def endpoint(target: Target) -> str:
    """The address of the service as a client on its machine writes it."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(target.host, target.host)
    return f"http://[{host}]:{target.ports}" if ":" in host else f"http://{host}:{target.ports}"


def reasons_of(plan: Plan) -> tuple[str, ...]:
    """The plan's decisions, for the reader of a script."""
    return tuple(f"{d.what}: {d.choice} ({d.reason})" for d in plan.decisions)


def loading_s(replica: Replica) -> int:
    """Seconds that a replica may take until it is ready."""
    weights = sum(stage.memory.weights_bytes * stage.tp for stage in replica.stages)
    return 300 + round(weights / LOADING_BYTES_PER_S)


def weights_check(plan: Plan, weights: str) -> Check:
    """That the weights are there."""
    absent = (
        f"no weights of `{served(plan).name}` in {weights}: put a Hugging Face checkpoint there, or name another `path`"
    )
    return Check(kind="folder", value=weights, message=absent)
