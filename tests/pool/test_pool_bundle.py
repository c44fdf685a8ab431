"""What a plan over chains becomes: configs that the runtime takes, and reasons against what it does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hexdsl.api import load, plan
from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.runtime.chain_config import PeerConfig
from hexdsl.runtime.config import RouterConfig
from hexdsl.targets.engines import vllm
from hexdsl.targets.engines.torch import lower, supports

SPEC = Path(__file__).parents[2] / "specs" / "pool" / "laptops.hex"


@pytest.fixture(scope="module")
def laptops() -> Plan:
    return plan(load(SPEC))


@pytest.fixture(scope="module")
def launch(laptops: Plan) -> Launch:
    return lower(laptops, Target(name="torch"), SPEC.parent)


def test_each_peer_gets_its_layers_and_addresses_of_its_own(laptops: Plan, launch: Launch) -> None:
    *files, _ = launch.files
    peers = [PeerConfig.model_validate_json(file.text) for file in files]
    stages = [(s.machine, s.layers) for r in laptops.replicas for s in r.stages]
    assert [(p.peer, p.layers) for p in peers] == stages
    assert {p.total_layers for p in peers} == {30}
    ports = [port.port for process in launch.processes for port in process.ports]
    assert len(set(ports)) == len(ports) == 2 * len(peers) + 1
    assert [p.argv[2] for p in launch.processes] == ["hexdsl.runtime.chain_peer"] * 4 + ["hexdsl.runtime.router"]


def test_the_router_knows_who_holds_what_and_where(laptops: Plan, launch: Launch) -> None:
    router = RouterConfig.model_validate_json(launch.files[-1].text)
    assert router.protocol == "chains"
    assert router.chains
    assert laptops.chains
    peers = {p.name: p for p in launch.processes}
    assert len(router.chains.holders) == len(peers) - 1
    assert [h.layers for h in router.chains.holders] == [h.layers for h in laptops.chains.holders]
    assert sorted(t.chain for t in router.chains.turns) == sorted(
        tuple(s.machine for s in r.stages) for r in laptops.replicas
    )


def test_a_stage_of_several_gpus_is_refused(laptops: Plan) -> None:
    first = laptops.replicas[0]
    stage = first.stages[0]
    wide = first.with_(stages=(stage.with_(devices=(*stage.devices, "ana:1")), *first.stages[1:]))
    reasons = supports(laptops.with_(replicas=(wide, *laptops.replicas[1:])), Target(name="torch"))
    assert any("has one GPU, and ana shares its layers among 2" in r.text for r in reasons)


def test_vllm_has_no_chains(laptops: Plan) -> None:
    assert any("chain of peers" in reason.text for reason in vllm.supports(laptops, Target(name="vllm")))


def test_a_peer_with_two_stages_is_refused(laptops: Plan) -> None:
    first, second = laptops.replicas
    moved = second.with_(stages=(second.stages[0].with_(machine="ana"), *second.stages[1:]))
    reasons = supports(laptops.with_(replicas=(first, moved)), Target(name="torch"))
    assert any("ana holds 2" in r.text for r in reasons)
