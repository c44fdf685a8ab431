"""The script of a replica: vLLM's options, each with the plan's reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hexdsl.ir.launch import File
from hexdsl.ir.plan import Plan, Precision, Stage
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import layers_of
from hexdsl.targets.engines.torch.place import served
from hexdsl.targets.engines.vllm.formats import words_of
from hexdsl.targets.engines.vllm.place import Place, kinds_of_halves
from hexdsl.targets.templating import render_shell

TEMPLATE = Path(__file__).parent / "templates" / "replica.sh.j2"
VERSION = "0.32"
"""The release whose parser and servers were tried, with all its patches."""

GPU_BLOCK_TOKENS, CPU_BLOCK_TOKENS = 16, 32
"""Tokens in a block of the KV cache; vLLM's CPU attention takes multiples of 32."""

SPARE_BLOCKS = 2
"""vLLM keeps one block empty, and the last one of a sequence is seldom full."""

ATTENTION = "FLASHINFER"
"""Attention for unlike GPUs that exchange KV caches; by itself vLLM chooses by the compute capability."""

KV_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}


class Option(NamedTuple):
    """An option with its value, empty for a switch, and the reason for the reader of the script."""

    flag: str
    value: object
    why: str


def replica_script(plan: Plan, target: Target, place: Place, weights: str) -> File:
    """The script that turns into vLLM's server on each machine of a replica."""
    precision = _precision(plan, place)
    text = render_shell(
        TEMPLATE,
        title=f"{place.replica.name}: {what_they_hold(place.replica.stages)}",
        version=VERSION,
        weights=weights,
        options=tuple(options(plan, target, place)),
        narrow="fp8" if precision.weights == "fp8" else "",
    )
    return File(path=place.script, text=text, executable=True)


def what_they_hold(stages: tuple[Stage, ...]) -> str:
    """`layers 0 to 3 on big-0:0, big-0:1 (H100); layers 4 to 7 on ...`."""
    return "; ".join(f"{layers_of(stage)} on {', '.join(stage.devices)} ({stage.gpu})" for stage in stages)


def options(plan: Plan, target: Target, place: Place) -> Iterator[Option]:
    """All options of a replica but those that differ between its machines."""
    yield Option("--served-model-name", served(plan).name, "the name that clients send")
    yield Option("--host", place.host, "where the router finds it")
    yield Option("--port", place.port, "")
    yield from _parallel(place)
    yield from _formats(plan, place)
    yield from _memory(plan, place)
    yield from _limits(plan, target, place)
    yield from _handover(plan, place)


def _parallel(place: Place) -> Iterator[Option]:
    shared = f"{place.tp} devices share each layer" if place.tp > 1 else "no layer is shared"
    cut = ", ".join(str(stage.layers[1] - stage.layers[0]) for stage in place.replica.stages)
    yield Option("--tensor-parallel-size", place.tp, shared)
    yield Option("--pipeline-parallel-size", place.pp, f"layers of each stage: {cut}")
    yield Option("--distributed-executor-backend", "mp", "plain processes, without Ray")
    if len(place.nodes) > 1:
        names = ", ".join(node.machine.id for node in place.nodes)
        yield Option("--nnodes", len(place.nodes), f"machines: {names}")
        yield Option("--master-addr", place.host, "where they meet")
        yield Option("--master-port", place.meeting_port, "")


def _formats(plan: Plan, place: Place) -> Iterator[Option]:
    precision = _precision(plan, place)
    words = words_of(precision, place.gpu)
    yield Option("--dtype", words.dtype, precision.reason)
    yield Option("--kv-cache-dtype", words.kv or "auto", f"the plan keeps the KV cache in {precision.kv}")


def _memory(plan: Plan, place: Place) -> Iterator[Option]:
    """A GPU's memory is shared out by vLLM, which measures what is left; of a CPU's it takes what the plan says."""
    if place.cpu:
        yield Option("--block-size", CPU_BLOCK_TOKENS, "tokens in a block of the KV cache")
        yield Option("--kv-cache-memory-bytes", _kv_bytes(plan, place), f"for {place.replica.kv_tokens} tokens")
        return
    assert isinstance(plan.workflow, Serve)
    if plan.workflow.model.kv_lora_rank is None:  # kernels of latent attention choose their own
        yield Option("--block-size", GPU_BLOCK_TOKENS, "tokens in a block of the KV cache")
    share = f"{plan.workflow.utilization:g}"
    yield Option("--gpu-memory-utilization", share, "share of the memory that weights and KV cache may fill")


def _kv_bytes(plan: Plan, place: Place) -> int:
    """What the plan sets aside on the stage with the largest KV cache, but enough for one longest request."""
    replica = place.replica
    tokens = max(replica.kv_tokens, plan.context) + SPARE_BLOCKS * CPU_BLOCK_TOKENS
    most = max(stage.memory.kv_bytes for stage in replica.stages)
    return most * tokens // max(replica.kv_tokens, 1)


def _limits(plan: Plan, target: Target, place: Place) -> Iterator[Option]:
    replica = place.replica
    yield Option("--max-model-len", plan.context, "longest prompt and answer together")
    yield Option("--max-num-seqs", replica.max_batch, "requests that run together")
    tokens = max(replica.step_tokens, replica.max_batch)
    yield Option("--max-num-batched-tokens", tokens, "tokens of a step: decoding requests and chunks of prompts")
    most = replica.max_batch + target.max_queue
    yield Option("--max-num-queued-reqs", most, "more are told to come back")
    if place.cpu and place.pp == 1:  # its pipelines run only when compiled
        yield Option("--enforce-eager", "", "compiling takes minutes on a CPU")


def _handover(plan: Plan, place: Place) -> Iterator[Option]:
    """NIXL moves KV caches between machines by RDMA, NVLink, shared memory or TCP, whatever there is."""
    role = place.replica.role
    if role == "both":
        return
    config = {"kv_connector": "NixlConnector", "kv_role": KV_ROLES[role]}
    if role == "decode":  # a KV cache that is lost on its way is computed again
        config["kv_load_failure_policy"] = "recompute"
    does = "prefills, and others fetch the KV cache" if role == "prefill" else "fetches KV caches, and decodes"
    yield Option("--kv-transfer-config", json.dumps(config), does)
    if len(kinds_of_halves(plan)) > 1:
        yield Option("--attention-backend", ATTENTION, "KV caches travel only between equal attention kernels")


def _precision(plan: Plan, place: Place) -> Precision:
    kind = place.replica.stages[0].gpu
    return next(p for p in plan.precision if p.gpu == kind)
