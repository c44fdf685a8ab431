"""What the vLLM engine makes of a plan, and which plans it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_injection import EVIL, SHELLCHECK, poisoned

from hexdsl.ir.engine import Limits, Part, limits_of
from hexdsl.ir.launch import Launch, Process
from hexdsl.ir.plan import Handover, Plan
from hexdsl.ir.spec.model import Format, Sparse
from hexdsl.ir.spec.target import Target
from hexdsl.runtime.config import RouterConfig
from hexdsl.targets.engines.torch.place import served
from hexdsl.targets.engines.vllm.lower import lower
from hexdsl.targets.engines.vllm.supports import supports

VLLM = Target(name="vllm")
RECORDER = """#!{python}
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("VLLM_API_KEY")]))
"""

Change = Callable[[Plan], Plan]


def process(launch: Launch, name: str) -> Process:
    return next(p for p in launch.processes if p.name == name)


def called(launch: Launch, name: str, folder: Path, **env: str) -> tuple[list[str], str | None]:
    """What the command of a process calls Python with, and the key that vLLM gets."""
    for file in launch.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_text(file.text)
    recorder = folder / "recorder"
    recorder.write_text(RECORDER.format(python=sys.executable))
    recorder.chmod(0o755)
    variables = {"PATH": "/usr/bin:/bin", "HEXC_VLLM_PYTHON": str(recorder), **env}
    done = subprocess.run(process(launch, name).argv, cwd=folder, env=variables, capture_output=True, check=True)
    words, key = json.loads(done.stdout)
    return words, key


def options(words: list[str]) -> dict[str, str]:
    """The options of a command line; a switch has an empty value."""
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {flag: "" if value.startswith("--") else value for flag, value in pairs if flag.startswith("--")}


def with_model(plan: Plan, **changes: Any) -> Plan:
    return plan.with_(workflow=plan.workflow.with_(model=served(plan).with_(**changes)))


def with_formats(plan: Plan, **changes: Any) -> Plan:
    return plan.with_(precision=tuple(p.with_(**changes) for p in plan.precision))


def with_gpu(plan: Plan, **changes: Any) -> Plan:
    (nodes,) = plan.workflow.on.nodes
    gpus = nodes.gpus.with_(gpu=nodes.gpus.gpu.with_(**changes))
    cluster = plan.workflow.on.with_(nodes=(nodes.with_(gpus=gpus),))
    return plan.with_(workflow=plan.workflow.with_(on=cluster))


def test_each_replica_is_one_server_with_the_plans_shape(gpus: Plan, tmp_path: Path) -> None:
    launch = lower(gpus, VLLM, Path("/specs"))
    words, key = called(launch, "replica-0", tmp_path)
    assert words[:4] == ["-m", "vllm.entrypoints.cli.main", "serve", "/specs/models/tiny"]
    found = options(words)
    assert (found["--tensor-parallel-size"], found["--pipeline-parallel-size"], found["--dtype"]) == (
        "2",
        "1",
        "bfloat16",
    )
    assert (found["--gpu-memory-utilization"], found["--max-num-seqs"], found["--max-model-len"]) == ("0.9", "4", "512")
    assert dict(process(launch, "replica-0").env)["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert key is None


def test_uneven_layers_come_by_the_environment(gpus: Plan) -> None:
    env = dict(process(lower(gpus, Target(name="vllm", env={"OMP_NUM_THREADS": "3"}), Path("/s")), "replica-1").env)
    assert (env["VLLM_PP_LAYER_PARTITION"], env["CUDA_VISIBLE_DEVICES"], env["OMP_NUM_THREADS"]) == ("3,1", "2,3", "3")


def test_a_replica_on_two_machines_has_a_headless_process(uneven: Plan, tmp_path: Path) -> None:
    launch = lower(uneven, VLLM, Path("/specs"))
    head, rest = (options(called(launch, name, tmp_path)[0]) for name in ("replica-0", "replica-0-node-1"))
    assert (head["--nnodes"], head["--node-rank"], rest["--node-rank"]) == ("2", "0", "1")
    assert "--headless" in rest
    assert "--headless" not in head
    assert head["--master-port"] == rest["--master-port"] == "18102"
    assert process(launch, "replica-0-node-1").ready is None
    assert {p.group for p in launch.processes} == {"replica-0", "router"}


def test_a_cpu_keeps_room_for_one_longest_request(uneven: Plan, tmp_path: Path) -> None:
    small = uneven.with_(replicas=(uneven.replicas[0].with_(kv_tokens=64),))
    kv_bytes = int(options(called(lower(small, VLLM, Path("/")), "replica-0", tmp_path)[0])["--kv-cache-memory-bytes"])
    a_token = 5 * 10**8 // 64
    assert kv_bytes >= small.context * a_token
    assert kv_bytes < 2 * small.context * a_token


def test_the_key_reaches_vllm_by_the_environment_only(gpus: Plan, tmp_path: Path) -> None:
    words, key = called(lower(gpus, VLLM, Path("/")), "replica-0", tmp_path, HEXC_API_KEY="secret")
    assert key == "secret"
    assert "secret" not in words


@pytest.mark.parametrize("evil", EVIL)
def test_texts_reach_vllm_unchanged(evil: str, uneven: Plan, tmp_path: Path) -> None:
    plan, target = poisoned(uneven, evil)
    launch = lower(plan, target.with_(name="vllm"), tmp_path)
    words, _ = called(launch, "replica-0", tmp_path)
    assert words[3:6] == [str(tmp_path / "models" / evil), "--served-model-name", evil]
    script = str(tmp_path / "config" / "replica-0.sh")
    assert subprocess.run([SHELLCHECK, "--severity=warning", script], capture_output=True, text=True).stdout == ""
    assert list(tmp_path.rglob("hacked")) == []


def test_halves_hand_over_their_kv_cache(halves: Plan, tmp_path: Path) -> None:
    launch = lower(halves, VLLM, Path("/specs"))
    configs = [
        json.loads(options(called(launch, f"replica-{k}", tmp_path)[0])["--kv-transfer-config"]) for k in range(3)
    ]
    assert [c["kv_role"] for c in configs] == ["kv_producer", "kv_consumer", "kv_consumer"]
    assert {c["kv_connector"] for c in configs} == {"NixlConnector"}
    ports = [dict(process(launch, f"replica-{k}").env)["VLLM_NIXL_SIDE_CHANNEL_PORT"] for k in range(3)]
    assert ports == ["18107", "18108", "18109"]
    router = RouterConfig.model_validate_json(next(f.text for f in launch.files if f.path == "config/router.json"))
    assert [(r.role, r.weight) for r in router.replicas] == [("prefill", 1), ("decode", 0.625), ("decode", 0.375)]
    assert any('"nixl"' in check.value for check in launch.checks)


@pytest.mark.parametrize(("config", "found"), [("{}", "fp8"), ('{"quantization_config": {}}', None)])
def test_a_plain_checkpoint_is_brought_to_fp8(halves: Plan, tmp_path: Path, config: str, found: str | None) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.json").write_text(config)
    words, _ = called(lower(halves, VLLM, tmp_path), "replica-0", tmp_path)
    assert options(words).get("--quantization") == found


def test_narrow_weights_must_be_in_the_checkpoint(gpus: Plan) -> None:
    plan = with_formats(gpus, weights="int4", kv="int8")
    check = next(c for c in lower(plan, VLLM, Path("/")).checks if "int4" in c.message)
    assert subprocess.run([sys.executable, "-c", check.value], capture_output=True).returncode != 0
    assert supports(plan, VLLM) == ()


def test_no_port_is_used_twice(halves: Plan) -> None:
    ports = [port.port for p in lower(halves, VLLM, Path("/")).processes for port in p.ports]
    assert len(ports) == len(set(ports)) == 7


def restaged(plan: Plan, *devices: int) -> Plan:
    """The plan with one replica whose stages have so many devices each."""
    stage, stages = plan.replicas[0].stages[0], []
    for k, count in enumerate(devices):
        first = sum(devices[:k])
        names = tuple(f"big-0:{i}" for i in range(first, first + count))
        stages.append(stage.with_(layers=(2 * k, 2 * k + 2), devices=names))
    return plan.with_(replicas=(plan.replicas[0].with_(stages=tuple(stages)),))


def with_role(plan: Plan, index: int, role: str) -> Plan:
    changed = (r.with_(role=role) if k == index else r for k, r in enumerate(plan.replicas))
    return plan.with_(replicas=tuple(changed))


REFUSED: list[tuple[Change, str]] = [
    (lambda p: with_model(p, path=None), "does not say where its weights are"),
    (lambda p: with_model(p, path="a\0b"), "NUL"),
    (lambda p: with_model(p, attention=Sparse()), "sparse attention"),
    (lambda p: p.with_(replicas=()), "no replicas"),
    (lambda p: restaged(p, 1, 2), "replica `r0` has stages of 1 and 2 GPUs"),
    (lambda p: with_model(p, heads=3, kv_heads=3), "2 GPUs of replica `r0` cannot share 3 heads"),
    (lambda p: with_model(p, weights=Format(kind="int4", group=256)), "groups of 256 weights"),
    (lambda p: with_formats(p, activations="fp32"), "keeps plain weights in the format of the activations"),
    (lambda p: with_formats(p, weights="int4", activations="fp8"), "does not multiply int4 weights with fp8"),
    (lambda p: with_formats(p, kv="fp32"), "keeps the KV cache in bf16 or narrower"),
    (lambda p: with_gpu(p, sm=75), "needs compute capability 8.0 for bf16, and H100 has compute capability 7.5"),
    (lambda p: with_formats(with_gpu(p, sm=70), weights="fp16", activations="fp16", kv="fp16"), "capability 7.5, and"),
    (lambda p: with_formats(p, kv="fp4"), "needs compute capability 10.0 for fp4"),
    (lambda p: with_role(p, 0, "prefill"), "replicas that prefill and none that decode"),
    (lambda p: with_role(with_role(p, 0, "prefill"), 1, "decode"), "replica `r1` only decodes, in 2 stages"),
]


@pytest.mark.parametrize(("change", "text"), REFUSED)
def test_a_plan_that_it_cannot_run(gpus: Plan, change: Change, text: str) -> None:
    (reason,) = supports(change(gpus), VLLM)
    assert text in reason.text


CPU_REFUSED: list[tuple[Change, str]] = [
    (lambda p: with_formats(p, weights="fp8", activations="bf16", kv="bf16"), "does not run fp8 weights on a CPU"),
    (lambda p: with_formats(p, kv="int8"), "does not keep the KV cache in int8 on a CPU"),
    (lambda p: with_model(p, head_dim=20), "no attention for heads of width 20"),
]


@pytest.mark.parametrize(("change", "text"), CPU_REFUSED)
def test_a_plan_that_its_cpu_build_cannot_run(uneven: Plan, change: Change, text: str) -> None:
    (reason,) = supports(change(uneven), VLLM)
    assert text in reason.text


def test_kv_caches_with_scales_do_not_travel(halves: Plan) -> None:
    assert supports(halves, VLLM) == ()
    (reason,) = supports(with_formats(halves, kv="int8"), VLLM)
    assert reason.text == "a KV cache in int8 cannot be handed over (H100)"


def test_handovers_give_each_pair_its_share(halves: Plan) -> None:
    shares = (("r1", 0.25), ("r2", 0.75))
    handovers = tuple(Handover(source="r0", target=name, weight=share, bits=16) for name, share in shares)
    plan = halves.with_(routes=halves.routes[:1], handovers=handovers)
    assert supports(plan, VLLM) == ()
    files = lower(plan, VLLM, Path("/")).files
    router = RouterConfig.model_validate_json(next(f.text for f in files if f.path == "config/router.json"))
    assert [(r.name, r.weight) for r in router.replicas] == [("r0", 1), *shares]
    assert [(h.source, h.target, h.weight) for h in router.handovers] == [("r0", *share) for share in shares]


def test_kv_caches_are_not_compressed_on_their_way(halves: Plan) -> None:
    handover = Handover(source="r0", target="r1", weight=1, bits=4)
    (reason,) = supports(halves.with_(handovers=(handover,)), VLLM)
    assert "as they are, and the plan sends those of `r0` in 4 bits" in reason.text


def on_two_kinds(plan: Plan, **changes: Any) -> Plan:
    """The plan with its prefill replica on another kind of GPU than H100."""
    (nodes,) = plan.workflow.on.nodes
    other = nodes.gpus.gpu.with_(name="other", **changes)
    groups = (nodes, nodes.with_(name="more", gpus=nodes.gpus.with_(gpu=other)))
    first, *rest = plan.replicas
    first = first.with_(stages=tuple(s.with_(gpu="other") for s in first.stages))
    return plan.with_(
        workflow=plan.workflow.with_(on=plan.workflow.on.with_(nodes=groups)),
        precision=(*plan.precision, plan.precision[0].with_(gpu="other")),
        replicas=(first, *rest),
    )


def test_unlike_gpus_share_attention_kernels(halves: Plan, tmp_path: Path) -> None:
    plan = on_two_kinds(halves, sm=100)
    assert supports(plan, VLLM) == ()
    assert (
        options(called(lower(plan, VLLM, Path("/")), "replica-1", tmp_path)[0])["--attention-backend"] == "FLASHINFER"
    )
    (reason,) = supports(on_two_kinds(halves, sm=None), VLLM)
    assert "no attention kernel for all of H100, other" in reason.text
    latent = with_model(plan, kv_lora_rank=64)
    assert "no attention kernel" in supports(latent, VLLM)[0].text


def test_kv_caches_do_not_change_their_format_on_the_way(halves: Plan) -> None:
    plan = on_two_kinds(halves, sm=90)
    formats = tuple(p.with_(kv="fp8") if p.gpu == "other" else p for p in plan.precision)
    (reason,) = supports(plan.with_(precision=formats), VLLM)
    assert reason.text == "a KV cache cannot go from one format to another (H100, other)"


def test_ports_that_do_not_exist(halves: Plan) -> None:
    replicas = tuple(halves.replicas[0].with_(name=f"r{i}", role="both") for i in range(300))
    (reason,) = supports(halves.with_(replicas=replicas), Target(name="vllm", ports=65000))
    assert "65000 to 65900" in reason.text


def parts(*stages: tuple[str, int]) -> tuple[Part, ...]:
    return tuple(Part(machine, "bf16", tp) for machine, tp in stages)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        (parts(("a", 2), ("a", 2), ("b", 4)), "has stages of 2 and 4 GPUs"),
        (parts(("a", 2), ("a", 2), ("b", 2)), "takes 4 and 2 GPUs of its machines"),
        (parts(("a", 2), ("b", 2), ("a", 2)), "comes back to a machine that earlier stages have left"),
        ((*parts(("a", 2)), Part("b", "fp16", 2)), "has stages with different number formats"),
        (parts(("a", 2), ("b", 2)), None),
        (parts(("a", 1), ("a", 1), ("a", 1)), None),
    ],
)
def test_limits_of_a_planner(stages: tuple[Part, ...], text: str | None) -> None:
    limits = limits_of((Target(name="torch"), VLLM))
    assert [objection.what for objection in limits.against(stages)] == ([] if text is None else [text])
    assert limits.allows(stages) == (text is None)


def test_a_plan_is_for_all_targets_of_a_workflow() -> None:
    torch, vllm = (limits_of((Target(name=name),)) for name in ("torch", "vllm"))
    assert limits_of(()) == Limits()
    assert torch.allows(parts(("a", 2), ("b", 1)))
    assert not vllm.allows(parts(("a", 2), ("b", 1)))
    assert [vllm.allows(parts(("a", 1), ("a", 1)), role) for role in ("both", "prefill", "decode")] == [1, 0, 0]
