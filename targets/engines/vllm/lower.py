"""A serve plan as vLLM's API servers, one a replica (and a headless process on its other machines), and a router."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hexdsl.ir.launch import Check, Launch, Port, Process, Ready
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.engines.torch.lower import weights_path
from hexdsl.targets.engines.torch.place import served
from hexdsl.targets.engines.vllm.config import VERSION, replica_script, what_they_hold
from hexdsl.targets.engines.vllm.formats import DTYPES
from hexdsl.targets.engines.vllm.place import Node, Place, hands_over, places_of
from hexdsl.targets.service import endpoint, loading_s, reasons_of, router_config, router_process, weights_check

PYTHON = "HEXC_VLLM_PYTHON"
ROUTER_MODULES = ("hexdsl.runtime.router", "starlette", "uvicorn", "httpx")
START_S = 300
"""For imports, compilation and capturing graphs, beside loading."""


def lower(plan: Plan, target: Target, folder: Path) -> Launch:
    """The process table of a serve plan.  `folder` is the spec's, absolute; `~` in paths is left to the shell."""
    weights = weights_path(served(plan), folder)
    places = places_of(plan, target)
    servers = tuple(process for place in places for process in _servers(target, place))
    return Launch(
        name=plan.name,
        engine=target.name,
        launcher=target.launcher.kind,
        endpoint=endpoint(target),
        processes=(*servers, router_process(plan, target, [server.name for server in servers if server.ready])),
        files=(*(replica_script(plan, target, p, weights) for p in places), router_config(plan, target, places)),
        checks=tuple(_checks(plan, target, weights, places)),
        reasons=reasons_of(plan),
    )


def _servers(target: Target, place: Place) -> Iterator[Process]:
    """The API server on the first machine of a replica, and what runs the stages on its others."""
    for rank, node in enumerate(place.nodes):
        yield Process(
            name=f"{place.name}-node-{rank}" if rank else place.name,
            role="worker",
            host=node.machine.host,
            gpus=() if place.cpu else tuple(device.index for device in node.devices),
            rank=rank,
            argv=("bash", place.script, *_node_options(place, rank)),
            env=_environment(target, place, node),
            ports=() if rank else tuple(_ports(place)),
            ready=None if rank else Ready(url=f"{place.url}/health", timeout_s=START_S + loading_s(place.replica)),
            group=place.name,
            restarts=target.restarts,
            comment=_comment(place, node, rank),
        )


def _node_options(place: Place, rank: int) -> tuple[str, ...]:
    if len(place.nodes) == 1:
        return ()
    return ("--node-rank", str(rank), *(("--headless",) if rank else ()))


def _environment(target: Target, place: Place, node: Node) -> tuple[tuple[str, str], ...]:
    """The target's variables win over our defaults, but not over what the plan says."""
    default = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # weights are here, and nothing is reported
    fixed = {}
    if place.pp > 1:
        fixed["VLLM_PP_LAYER_PARTITION"] = ",".join(str(s.layers[1] - s.layers[0]) for s in place.replica.stages)
    if place.replica.role != "both":
        fixed["VLLM_NIXL_SIDE_CHANNEL_HOST"] = node.address
        fixed["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(place.handover_port)
    if place.cpu:
        default |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    else:
        fixed["CUDA_VISIBLE_DEVICES"] = ",".join(str(device.index) for device in node.devices)
    if len(place.nodes) > 1 and target.launcher.kind == "local":
        default["VLLM_HOST_IP"] = node.address
    return tuple(sorted((default | target.env | fixed).items()))


def _ports(place: Place) -> Iterator[Port]:
    yield Port(host=place.host, port=place.port, use=f"requests to {place.name}")
    if len(place.nodes) > 1:
        yield Port(host=place.host, port=place.meeting_port, use=f"the machines of {place.name} meet")
    if place.replica.role != "both":
        yield Port(host=place.host, port=place.handover_port, use=f"who fetches KV caches of {place.name}")


def _comment(place: Place, node: Node, rank: int) -> str:
    half = {"both": "", "prefill": " (prefill)", "decode": " (decode)"}[place.replica.role]
    where = f", machine {rank + 1} of {len(place.nodes)}" if len(place.nodes) > 1 else ""
    return f"{place.replica.name}{half}: {what_they_hold(node.stages)}{where}"


def _checks(plan: Plan, target: Target, weights: str, places: tuple[Place, ...]) -> Iterator[Check]:
    names = " ".join(ROUTER_MODULES)
    code = f'from importlib.util import find_spec; raise SystemExit(None in map(find_spec, "{names}".split()))'
    missing = f"this Python lacks one of {names}: install hexdsl[run], or set HEXC_PYTHON to a Python that has it"
    yield Check(kind="python", value=code, message=missing)
    absent = f"{PYTHON} (or python3) has no vLLM {VERSION}: install it, or set the absolute path of a Python with it"
    yield _in_vllm(target, (_IS, "vllm", f"{VERSION}."), absent)
    if hands_over(plan):
        absent = f"KV caches travel by NIXL, and {PYTHON} (or python3) lacks it: pip install nixl there"
        yield _in_vllm(target, (_HAS, "nixl"), absent)
    yield weights_check(plan, weights)
    yield from _quantised(plan, weights)
    most = max((device.index + 1 for p in places if not p.cpu for n in p.nodes for device in n.devices), default=0)
    if most:
        yield _in_vllm(target, (_SEES, str(most)), f"the plan is for {most} GPUs, and torch sees fewer here")


_IS = "import sys; from importlib.metadata import version as v; sys.exit(not v(sys.argv[1]).startswith(sys.argv[2]))"
_HAS = "import sys; from importlib.util import find_spec; sys.exit(find_spec(sys.argv[1]) is None)"
_SEES = "import sys, torch; sys.exit(torch.cuda.device_count() < int(sys.argv[1]))"


def _in_vllm(target: Target, words: tuple[str, ...], message: str) -> Check:
    """A check in vLLM's Python, which is not hexc's: code and its arguments."""
    python = json.dumps(target.env[PYTHON]) if PYTHON in target.env else f'os.environ.get("{PYTHON}", "python3")'
    command = ", ".join([python, *map(json.dumps, ("-c", *words))])
    code = f"import os, subprocess; raise SystemExit(subprocess.run([{command}]).returncode)"
    return Check(kind="python", value=code, message=message)


def _quantised(plan: Plan, weights: str) -> Iterator[Check]:
    """vLLM brings weights to fp8 itself; narrower ones must be in the checkpoint."""
    narrow = sorted({p.weights for p in plan.precision} - {*DTYPES, "fp8"})
    if narrow:
        code = (
            "import json, os; "
            f"config = json.load(open(os.path.join(os.path.expanduser({weights!r}), 'config.json'))); "
            "raise SystemExit('quantization_config' not in config)"
        )
        message = f"the plan is for weights in {narrow[0]}, and the checkpoint in {weights} is not quantised"
        yield Check(kind="python", value=code, message=message)
