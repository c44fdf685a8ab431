"""The replicas as the router knows them: who gets what, who is down, what was counted; and how that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import httpx

from hexdsl.runtime.chain_table import ChainTable
from hexdsl.runtime.client import CONNECT, own_key
from hexdsl.runtime.config import ReplicaConfig, RouterConfig, RoutingConfig
from hexdsl.runtime.metrics import Counter, Gauge
from hexdsl.runtime.routing import Table

LOOK = 0.5
"""Seconds between looks after the replicas that are down."""


class Fleet:
    """`table` is replaced as a whole; requests under way keep the one that they began with."""

    def __init__(self, config: RouterConfig, client: httpx.AsyncClient) -> None:
        self.config, self.client = config, client
        self.down: set[str] = set()
        self.table = Table(config.routing, self.down)
        self.chains = ChainTable(config.chains, self.down) if config.chains else None
        self._told: dict[str, ReplicaConfig] = {}
        names = list(self.table.replicas)
        self.answers = Counter("hexc_router_answers_total", "Answers by replica.", "replica", names)
        self.handovers = Counter("hexc_router_handovers_total", "KV caches handed over by replica.", "replica", names)
        self.refusals = Counter("hexc_router_refusals_total", "Requests a replica did not take.", "replica", names)
        self.retries = Counter("hexc_router_retries_total", "Answers that a replica broke off.", "replica", names)
        self.changes = Counter("hexc_router_changes_total", "Changes of the routing while it ran.")
        self.down_gauge = Gauge("hexc_router_replicas_down", "Replicas that are down.", lambda: len(self.down))

    @property
    def ours(self) -> bool:
        """Whether the replicas are our own engine."""
        return self.config.protocol == "hexc"

    def refused(self, name: str) -> None:
        self.down.add(name)
        self.refusals.add(1, name)

    def answered(self, name: str) -> None:
        self.down.discard(name)

    async def change(self, routing: RoutingConfig) -> None:
        """New requests go by the new routing at once; replicas hear of their roles and are emptied where they leave."""
        old, self.table = self.table, Table(routing, self.down)
        self.down &= self.table.replicas.keys()
        if routing.chains and self.chains:
            self.chains = ChainTable(routing.chains, self.down, self.chains.running)
        parts = {"replicas": routing.replicas, "handovers": routing.handovers, "chains": routing.chains}
        self.config = self.config.with_(**parts)
        self.changes.add()
        if self.ours:
            await self._tell_all()
            await asyncio.gather(*(self._empty(replica) for replica in old.config.replicas))

    async def watch(self) -> None:
        """For ever: tells replicas their roles, and takes those that are down back once they are ready."""
        while True:
            await asyncio.gather(*map(self._look, [r for r in self.table.config.replicas if r.name in self.down]))
            if self.ours:
                await self._tell_all()
            await asyncio.sleep(LOOK)

    async def check(self, names: Collection[str]) -> bool:
        """Whether all of these are well; those that are not count as down."""
        known = [replica for name, replica in self.table.replicas.items() if name in names]
        found = await asyncio.gather(*map(self.health_of, known))
        for health in found:
            if not health["ready"]:
                self.refused(health["name"])
        return all(health["ready"] for health in found)

    async def health_of(self, replica: ReplicaConfig) -> dict[str, Any]:
        """Ready where it answers 200; our own engine also tells its stages, its role and how many requests it has."""
        known = replica.model_dump(include={"name", "url", "weight", "role"})
        try:
            answer = await self.client.get(f"{replica.url}/health", timeout=CONNECT)
        except httpx.HTTPError:
            return {**known, "ready": False, "stages": []}
        told = _told_in(answer)
        mine = {"is": told["role"], "requests": told["requests"]} if {"role", "requests"} <= told.keys() else {}
        return {**known, **mine, "ready": answer.status_code == 200, "stages": told.get("stages", [])}

    async def _look(self, replica: ReplicaConfig) -> None:
        if (await self.health_of(replica))["ready"]:
            self._told.pop(replica.name, None)  # it may have been started again
            self.answered(replica.name)

    async def _tell_all(self) -> None:
        await asyncio.gather(*(self._tell(r) for r in self.table.config.replicas if self._told.get(r.name) != r))

    async def _tell(self, replica: ReplicaConfig) -> None:
        said = replica.model_dump(include={"role", "max_batch", "step_tokens"}, exclude_none=True)
        if replica.name not in self.down and await self._post(replica, "role", said):
            self._told[replica.name] = replica

    async def _empty(self, replica: ReplicaConfig) -> None:
        """Sends away what a replica decodes, where it shall not decode any more or has left the routing."""
        now = self.table.replicas.get(replica.name)
        if replica.role == "prefill" or (now and now.role != "prefill"):
            return
        takers = [r for r in self.table.config.replicas if r.role != "prefill" and r.name not in self.down]
        takers.sort(key=lambda r: (r.role != "decode", -r.weight))
        targets = [self.table.target(replica.name, r.name) for r in takers]
        await self._post(replica, "leave", {"targets": targets, "everything": now is None})

    async def _post(self, replica: ReplicaConfig, what: str, said: dict[str, Any]) -> bool:
        url = f"{replica.url}/internal/{what}"
        try:
            return (await self.client.post(url, json=said, headers=own_key(), timeout=CONNECT)).status_code == 200
        except httpx.HTTPError:
            return False


def _told_in(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
