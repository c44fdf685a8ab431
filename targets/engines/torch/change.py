"""Another plan for a deployment that runs: what `python -m hexdsl.runtime.apply` brings about."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hexdsl.ir.launch import File
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.service import FORMAT_VERSION, endpoint, routing_of

CHANGE = "change.json"


def change_file(plan: Plan, target: Target, urls: Mapping[str, str]) -> File:
    """The routing of `plan`, with the limits of each replica's half of the work.

    `urls` are the addresses of its replicas by name: for those that run the ones in the running bundle's
    `config/router.json`, for others those that the change starts.  A replica keeps its name as long as it keeps its
    devices and layers.  `target` is that of the running bundle, whose endpoint is asked.
    """
    routing = routing_of(plan, urls)
    limits = {r.name: {"max_batch": r.max_batch, "step_tokens": max(r.step_tokens, r.max_batch)} for r in plan.replicas}
    replicas = [listed | limits[listed["name"]] for listed in routing["replicas"]]
    change = {
        "format_version": FORMAT_VERSION,
        "router": endpoint(target),
        "routing": {**routing, "replicas": replicas},
    }
    return File(path=CHANGE, text=json.dumps(change, indent=2) + "\n")
