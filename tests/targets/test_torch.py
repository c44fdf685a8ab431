"""What the torch engine makes of a plan, and which plans it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hexdsl.ir.launch import Launch, Process
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.cluster import Cluster, GpuSet, Nodes
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Sparse
from hexdsl.ir.spec.target import Target
from hexdsl.runtime.config import EngineConfig, RouterConfig
from hexdsl.targets.engines.torch.config import kv_blocks
from hexdsl.targets.engines.torch.lower import lower, weights_path
from hexdsl.targets.engines.torch.place import served
from hexdsl.targets.engines.torch.supports import supports
from hexdsl.targets.launchers.local.supports import supports as local_supports

TORCH = Target(name="torch")


def config(launch: Launch, name: str) -> Any:
    return json.loads(next(file.text for file in launch.files if file.path == f"config/{name}.json"))


def process(launch: Launch, name: str) -> Process:
    return next(p for p in launch.processes if p.name == name)


def with_model(plan: Plan, **changes: Any) -> Plan:
    return plan.with_(workflow=plan.workflow.with_(model=served(plan).with_(**changes)))


def test_the_runtime_reads_the_configs(gpus: Plan) -> None:
    launch = lower(gpus, TORCH, Path("/specs"))
    replicas = [EngineConfig.model_validate(config(launch, f"replica-{i}")) for i in range(2)]
    router = RouterConfig.model_validate(config(launch, "router"))
    assert [[stage.ranks for stage in r.stages] for r in replicas] == [[(0, 1)], [(0,), (1,)]]
    assert [[stage.layers for stage in r.stages] for r in replicas] == [[(0, 4)], [(0, 3), (3, 4)]]
    assert {(r.model.dtype, r.device, r.model.path) for r in replicas} == {("bfloat16", "cuda", "/specs/models/tiny")}
    assert [(r.name, r.url, r.weight) for r in router.replicas] == [
        ("r0", f"http://127.0.0.1:{replicas[0].port}", 0.625),
        ("r1", f"http://127.0.0.1:{replicas[1].port}", 0.375),
    ]


def test_a_cpu_plan_is_float32_with_one_thread_a_rank(uneven: Plan) -> None:
    launch = lower(uneven, TORCH, Path("/specs"))
    assert (config(launch, "replica-0")["device"], config(launch, "replica-0")["model"]["dtype"]) == ("cpu", "float32")
    assert dict(process(launch, "replica-0-rank-1").env) == {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "18102",
        "OMP_NUM_THREADS": "1",
    }


def test_every_rank_sees_its_own_gpu(gpus: Plan) -> None:
    launch = lower(gpus, TORCH, Path("/specs"))
    ranks = [p for p in launch.processes if p.role == "worker"]
    assert [dict(p.env)["CUDA_VISIBLE_DEVICES"] for p in ranks] == ["0", "1", "2", "3"]
    assert [p.gpus for p in ranks] == [(0,), (1,), (2,), (3,)]
    assert any("device_count() < 4" in check.value for check in launch.checks)


def test_no_port_is_used_twice(gpus: Plan) -> None:
    launch = lower(gpus, Target(name="torch", ports=20000), Path("/specs"))
    ports = [port.port for p in launch.processes for port in p.ports]
    assert sorted(ports) == [20000, 20001, 20002, 20003, 20004]
    assert launch.endpoint == "http://127.0.0.1:20000"
    assert dict(process(launch, "replica-1-rank-0").env)["MASTER_PORT"] == "20004"


def test_the_target_sets_variables_but_not_where_ranks_meet(uneven: Plan) -> None:
    target = Target(name="torch", env={"OMP_NUM_THREADS": "4", "MASTER_PORT": "1"}, restarts=2, max_queue=5)
    launch = lower(uneven, target, Path("/specs"))
    rank = process(launch, "replica-0-rank-0")
    assert (dict(rank.env)["OMP_NUM_THREADS"], dict(rank.env)["MASTER_PORT"]) == ("4", "18102")
    assert (rank.restarts, rank.group) == (2, "replica-0")
    assert config(launch, "replica-0")["limits"]["max_queue"] == 5


def test_the_router_waits_for_every_replica(gpus: Plan) -> None:
    router = process(lower(gpus, TORCH, Path("/specs")), "router")
    assert router.after == ("replica-0-rank-0", "replica-1-rank-0")


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("0.0.0.0", "http://127.0.0.1:18100"), ("::1", "http://[::1]:18100"), ("10.0.0.7", "http://10.0.0.7:18100")],
)
def test_the_endpoint_is_an_address_that_clients_can_use(uneven: Plan, host: str, endpoint: str) -> None:
    launch = lower(uneven, Target(name="torch", host=host), Path("/specs"))
    assert launch.endpoint == endpoint
    assert config(launch, "router")["host"] == host
    assert config(launch, "replica-0")["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "found"),
    [("../m", "/m"), ("/data/m", "/data/m"), ("~/m", "~/m"), ("a/./m/", "/specs/a/m")],
)
def test_weights_are_found_from_the_folder_of_the_spec(uneven: Plan, path: str, found: str) -> None:
    assert weights_path(served(with_model(uneven, path=path)), Path("/specs")) == found


@pytest.mark.parametrize(("tokens", "context", "blocks"), [(4096, 512, 256), (4111, 512, 256), (100, 513, 33)])
def test_kv_blocks_hold_one_longest_request(tokens: int, context: int, blocks: int) -> None:
    assert kv_blocks(tokens, context) == blocks


def mixed_formats(plan: Plan) -> Plan:
    return plan.with_(precision=tuple(p.with_(weights="bf16") for p in plan.precision))


REFUSED: list[tuple[Callable[[Plan], Plan], str, str | None]] = [
    (lambda p: with_model(p, path=None), "does not say where its weights are", 'path = "..."'),
    (lambda p: with_model(p, path="a\0b"), "NUL", None),
    (lambda p: with_model(p, family="GPT2LMHeadModel"), "architecture GPT2LMHeadModel", "LlamaForCausalLM"),
    (lambda p: with_model(p, experts=8), "mixture of experts", None),
    (lambda p: with_model(p, kv_lora_rank=64), "latent attention", None),
    (lambda p: with_model(p, attention=Sparse()), "sparse attention", None),
    (lambda p: p.with_(replicas=()), "no replicas", None),
    (lambda p: p.with_(precision=tuple(q.with_(weights="fp8") for q in p.precision)), "does not run fp8 yet", "fp16"),
    (mixed_formats, "weights in bf16, activations in fp32", "weights = fp32"),
]


@pytest.mark.parametrize(("change", "text", "help_"), REFUSED)
def test_a_plan_that_it_cannot_run(uneven: Plan, change: Callable[[Plan], Plan], text: str, help_: str | None) -> None:
    (reason,) = supports(change(uneven), TORCH)
    assert text in reason.text
    assert help_ is None or help_ in (reason.help or "")


def test_heads_that_cannot_be_shared(gpus: Plan) -> None:
    (reason,) = supports(with_model(gpus, heads=3, kv_heads=3), TORCH)
    assert reason.text.startswith("2 GPUs of replica `r0` cannot share 3 heads")


def test_ports_that_do_not_exist(uneven: Plan) -> None:
    replicas = tuple(uneven.replicas[0].with_(name=f"r{i}") for i in range(300))
    (reason,) = supports(uneven.with_(replicas=replicas), Target(name="torch", ports=65000))
    assert "65000 to 65600" in reason.text


def test_a_replica_on_cpus_and_gpus(uneven: Plan) -> None:
    fast = Gpu(name="cpu_core", memory=2e9, bandwidth=10e9, fp32=30e9)
    slow = Gpu(name="T4", memory=16e9, bandwidth=300e9, fp16=65e12, sm=75)
    nodes = (Nodes(name="fast", gpus=GpuSet(count=1, gpu=fast)), Nodes(name="slow", gpus=GpuSet(count=1, gpu=slow)))
    first, second = uneven.replicas[0].stages
    plan = uneven.with_(
        workflow=uneven.workflow.with_(on=Cluster(name="lab", nodes=nodes)),
        precision=(*uneven.precision, uneven.precision[0].with_(gpu="T4")),
        replicas=(uneven.replicas[0].with_(stages=(first, second.with_(gpu="T4"))),),
    )
    (reason,) = supports(plan, TORCH)
    assert reason.text == "replica `r0` mixes CPUs and GPUs (T4, cpu_core)"


def hosts_given(plan: Plan) -> Plan:
    first, second = plan.workflow.on.nodes
    cluster = plan.workflow.on.with_(nodes=(first, second.with_(hosts=("pi-3.lab",))))
    return plan.with_(workflow=plan.workflow.with_(on=cluster))


def test_local_stands_for_several_cpu_machines_only_without_hosts(uneven: Plan) -> None:
    assert local_supports(uneven, TORCH) == ()
    (reason,) = local_supports(hosts_given(uneven), TORCH)
    assert "the plan uses 2: `fast-0`, `slow-0`" in reason.text


def test_local_never_stands_for_several_gpu_machines(gpus: Plan) -> None:
    assert local_supports(gpus, TORCH) == ()
    other = gpus.machines[0].with_(id="big-1")
    moved = gpus.replicas[1].with_(stages=tuple(s.with_(machine="big-1") for s in gpus.replicas[1].stages))
    plan = gpus.with_(machines=(*gpus.machines, other), replicas=(gpus.replicas[0], moved))
    assert len(local_supports(plan, TORCH)) == 1
