"""Plans of prefill and decode replicas for the torch engine: configs, comments, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import precision, replica, stage, tiny_model

from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Handover, Plan, Route
from hexdsl.ir.spec.target import Target
from hexdsl.runtime.apply import ChangeConfig
from hexdsl.runtime.config import EngineConfig, RouterConfig
from hexdsl.targets.engines.torch import lower, supports
from hexdsl.targets.engines.torch.change import change_file
from hexdsl.targets.render import bundle_files

CASE = Path(__file__).parent.parent / "bundles" / "torch_phases"
TORCH = Target(name="torch")


@pytest.fixture
def phases(gpus: Plan) -> Plan:
    """A GPU prefills; two that share layer 0 and one with the others decode, and so does one alone, for 4 bits."""
    return gpus.with_(
        workflow=gpus.workflow.with_(model=tiny_model("bf16")),
        precision=(precision("H100", "bf16"),),
        replicas=(
            replica("r0", stage((0, 4), "big-0", "H100", range(1))).with_(role="prefill"),
            replica(
                "r1", stage((0, 1), "big-0", "H100", range(1, 2)), stage((1, 4), "big-0", "H100", range(2, 3))
            ).with_(role="decode"),
            replica("r2", stage((0, 4), "big-0", "H100", range(3, 4))).with_(role="decode"),
        ),
        routes=(Route(replica="r0", weight=1),),
        handovers=(
            Handover(source="r0", target="r1", weight=0.625, bits=16),
            Handover(source="r0", target="r2", weight=0.375, bits=4),
        ),
    )


@pytest.fixture
def launch(phases: Plan) -> Launch:
    return lower(phases, TORCH, Path("/specs"))


def text(launch: Launch, name: str) -> str:
    return next(file.text for file in launch.files if file.path == f"config/{name}.json")


def test_the_bundle_is_as_it_was(phases: Plan, launch: Launch, golden: Callable[[Path, str], None]) -> None:
    for file in bundle_files(phases, launch):
        if file.path in ("README.md", "config/replica-0.json", "config/router.json", "launch.json"):
            golden(CASE / file.path, file.text)


def test_the_runtime_reads_roles_and_handovers(phases: Plan, launch: Launch) -> None:
    assert supports(phases, TORCH) == ()
    engines = [EngineConfig.model_validate_json(text(launch, f"replica-{k}")) for k in range(3)]
    assert [engine.role for engine in engines] == ["prefill", "decode", "decode"]
    router = RouterConfig.model_validate_json(text(launch, "router"))
    assert router.protocol == "hexc"
    assert [(r.name, r.role, r.weight) for r in router.replicas] == [
        ("r0", "prefill", 1), ("r1", "decode", 0.625), ("r2", "decode", 0.375)
    ]  # fmt: skip
    assert [(h.source, h.target, h.weight, h.bits) for h in router.handovers] == [
        ("r0", "r1", 0.625, 16), ("r0", "r2", 0.375, 4)
    ]  # fmt: skip


def test_each_process_says_which_half_it_does(launch: Launch) -> None:
    said = {process.name: process.comment for process in launch.processes}
    assert "r0 (prefills, then hands KV caches over: 62.5% to r1, 37.5% to r2 in 4 bits)" in said["replica-0-rank-0"]
    assert "r1 (decodes what r0 prefilled): layers 1 to 3 on big-0:2" in said["replica-1-rank-1"]
    assert "r0 (prefill)" in said["router"]


def test_halves_that_do_not_fit_are_refused(phases: Plan) -> None:
    only = phases.with_(replicas=phases.replicas[1:], handovers=(), routes=(Route(replica="r1", weight=1),))
    assert [reason.text for reason in supports(only, TORCH)] == [
        "the plan has replicas that decode and none that prefill"
    ]
    odd = phases.with_(handovers=(Handover(source="r0", target="r2", weight=1, bits=3),))
    assert "not in the 3 from `r0`" in supports(odd, TORCH)[0].text
    back = phases.with_(handovers=(Handover(source="r1", target="r2", weight=1, bits=16),))
    assert "cannot go from `r1` to `r2`" in supports(back, TORCH)[0].text


def test_another_plan_is_a_change_that_the_runtime_reads(phases: Plan) -> None:
    flipped = phases.with_(
        replicas=(phases.replicas[0], phases.replicas[2].with_(role="decode", max_batch=7)),
        handovers=(Handover(source="r0", target="r2", weight=1, bits=4),),
    )
    running = {f"r{k}": f"http://127.0.0.1:1810{k + 1}" for k in range(3)}
    change = ChangeConfig.model_validate_json(change_file(flipped, TORCH, running).text)
    assert change.router == "http://127.0.0.1:18100"
    assert [(r.name, r.url, r.role, r.weight, r.max_batch, r.step_tokens) for r in change.routing.replicas] == [
        ("r0", running["r0"], "prefill", 1, 4, 512), ("r2", running["r2"], "decode", 1, 7, 512)
    ]  # fmt: skip
    assert [(h.source, h.target, h.bits) for h in change.routing.handovers] == [("r0", "r2", 4)]


def test_a_plan_without_phases_is_served_by_the_same_protocol(gpus: Plan) -> None:
    router = json.loads(text(lower(gpus, TORCH, Path("/specs")), "router"))
    assert (router["protocol"], router["handovers"]) == ("hexc", [])
    assert {replica["role"] for replica in router["replicas"]} == {"both"}
