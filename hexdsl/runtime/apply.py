"""Brings a running deployment to another routing: `python -m hexdsl.runtime.apply CHANGE.json`.

Run it on the router's machine, with the deployment's HEXC_API_KEY.  Replicas that the change adds must have been
started; those that it does not touch go on undisturbed.  In this order:

1. waits until the added replicas are ready;
2. gives the router the new routing: new requests go by it at once, replicas change their phase without loading
   anything, and what they must not go on with is handed over with its KV cache;
3. waits until every replica is ready in its role, and those that were removed have nothing left to do, so that they
   can be stopped.

Ends with 0 when all holds, 1 when something does not within the time (it says what), 2 for a mistake in the file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.runtime.client import own_key
from hexdsl.runtime.config import ReplicaConfig, RoutingConfig, RuntimeFault, faults_to_exit, read

PAUSE = 0.2
ANSWER = 30.0
"""Seconds for the router to answer; it asks all replicas meanwhile."""


class ChangeConfig(Ir):
    """The routing that shall hold, and the router's address."""

    format_version: Literal["1.0"]
    router: str = Field(pattern=r"^https?://")
    routing: RoutingConfig
    timeout_s: float = Field(300, gt=0)


class Deployment:
    """The router of a running deployment, and the replicas behind it."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client

    def routing(self) -> RoutingConfig:
        return RoutingConfig.model_validate_json(self._ask("GET", "/admin/routing").content)

    def change(self, routing: RoutingConfig) -> None:
        self._ask("PUT", "/admin/routing", routing.model_dump(mode="json", exclude_none=True))

    def known(self) -> dict[str, dict[str, Any]]:
        """What the router's /health says of each replica."""
        return {replica["name"]: replica for replica in self._ask("GET", "/health", over=(503,)).json()["replicas"]}

    def told_by(self, replica: ReplicaConfig) -> dict[str, Any] | None:
        """What a replica's own /health says; None where it is not ready."""
        try:
            answer = self._client.get(f"{replica.url}/health", timeout=2)
            return dict(answer.json()) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    def _ask(self, method: str, path: str, body: Any = None, over: Sequence[int] = ()) -> httpx.Response:
        try:
            answer = self._client.request(method, self._url + path, json=body)
        except httpx.HTTPError as error:
            raise RuntimeFault(f"{self._url}: the router cannot be asked: {error}") from None
        if answer.status_code != 200 and answer.status_code not in over:
            raise RuntimeFault(f"{self._url}{path}: HTTP {answer.status_code}: {answer.text[:200]}")
        return answer


def differences(old: RoutingConfig, new: RoutingConfig) -> Iterator[str]:
    """What changes, a line each."""
    before, after = ({replica.name: replica for replica in routing.replicas} for routing in (old, new))
    yield from (f"{name}: added as {after[name].role}" for name in after if name not in before)
    yield from (f"{name}: removed" for name in before if name not in after)
    for name in before.keys() & after.keys():
        for field in ("role", "weight", "max_batch", "step_tokens", "url"):
            was, will = getattr(before[name], field), getattr(after[name], field)
            if was != will:
                yield f"{name}: {field} {was} becomes {will}"
    if old.handovers != new.handovers:
        yield "handovers: " + (", ".join(f"{h.source} to {h.target} {h.weight:g}" for h in new.handovers) or "none")


def apply(change: ChangeConfig, deployment: Deployment, say: Callable[[str], None]) -> list[str]:
    """Applies a change; what does not hold in the end.  Raises `RuntimeFault` where the router refuses it."""
    end = time.monotonic() + change.timeout_s
    old, new = deployment.routing(), change.routing
    for line in sorted(differences(old, new)):
        say(line)
    known = {replica.name: replica.url for replica in old.replicas}
    added = [replica for replica in new.replicas if known.get(replica.name) != replica.url]
    missing = _until(lambda: [f"{r.name} is not ready at {r.url}" for r in added if not deployment.told_by(r)], end)
    if missing:
        return [*missing, "nothing was changed"]
    deployment.change(new)
    say("the router goes by the new routing")
    urls = {replica.url for replica in new.replicas}
    removed = [replica for replica in old.replicas if replica.url not in urls]
    return _until(lambda: [*_not_in_role(deployment, new), *_not_empty(deployment, removed)], end)


def _not_in_role(deployment: Deployment, routing: RoutingConfig) -> Iterator[str]:
    known = deployment.known()
    for replica in routing.replicas:
        now = known.get(replica.name, {})
        if not now.get("ready"):
            yield f"{replica.name} is not ready"
        elif now.get("is", replica.role) != replica.role:
            yield f"{replica.name} is {now['is']}, not {replica.role}"


def _not_empty(deployment: Deployment, removed: Sequence[ReplicaConfig]) -> Iterator[str]:
    for replica in removed:
        left = (deployment.told_by(replica) or {}).get("requests", 0)
        if left:
            yield f"{replica.name} still has {left} requests"


def _until(problems: Callable[[], list[str]], end: float) -> list[str]:
    """The problems that are left once there are none, or the time is over."""
    while (left := problems()) and time.monotonic() < end:
        time.sleep(PAUSE)
    return left


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.apply", description=__doc__)
    parser.add_argument("change", type=Path)
    options = parser.parse_args(argv)
    with faults_to_exit("apply"):
        change = read(options.change, ChangeConfig)
        with httpx.Client(headers=own_key(), timeout=ANSWER, trust_env=False) as client:
            left = apply(change, Deployment(change.router, client), lambda line: print(line, flush=True))
    for line in left:
        print(f"apply: {line}", file=sys.stderr)
    if left:
        raise SystemExit(1)
    print("all of it holds", flush=True)


if __name__ == "__main__":
    main()
