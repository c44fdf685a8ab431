"""Random serving specs: small ones that can be enumerated, and wide ones of every shape."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hexdsl.api import load_text
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec import Spec
from hexdsl.lang.resolve import Loaded
from hexdsl.passes.base import run_passes
from hexdsl.pipeline import SERVE, choose, start

TINY = "hidden = 1024, heads = 8, kv_heads = {kv}, head_dim = 128, ffn = 4096, vocab = 4_000, tied = {tied}"
MOE = TINY + ", experts = 4, experts_per_token = 2, expert_ffn = 2048, dense_layers = {dense}"
MLA = (
    TINY.replace("head_dim = 128", "head_dim = 192")
    + ", kv_lora_rank = 128, q_lora_rank = 256, rope_head_dim = 64, v_head_dim = 128"
)

OBJECTIVES = {
    "throughput": "maximize throughput",
    "goodput": "maximize goodput",
    "cost": "minimize cost",
    "mean": "minimize mean(latency)",
    "ttft": "minimize p95(ttft)",
    "tpot": "minimize p95(tpot)",
    "two": "minimize devices\n  maximize throughput",
}

RULES = (
    "tp <= {n}", "tp in [1, 2]", "pp <= {n}", "pp == {n}", "tp * pp <= 4", "cost <= ${dollars:.2f}/h", "devices <= {n}",
    "replicas >= {n}", "replicas < {n}", "p95(tpot) <= {fast}ms", "mean(tpot) < {fast}ms", "p95(ttft) <= {slow}ms",
    "p95(latency) <= {late}ms", "throughput >= {rate:.2f}req/s", "cost + 0.5 * cost <= ${dollars:.2f}/h",
    "p95(tpot) <= {fast}ms or tp == 1 and p95(tpot) <= 1s", "devices in 1..{n}",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A spec as text."""

    text: str

    def load(self) -> Loaded:
        return load_text(self.text, "case.hex")

    def plan(self) -> Plan:
        """The plan as the optimiser makes it, before anything is simulated."""
        return planned(self.load().spec)


def planned(spec: Spec) -> Plan:
    """The plan of a spec's workflow by all passes up to `verify`."""
    passes = SERVE[: [p.name for p in SERVE].index("verify") + 1]
    return run_passes(passes, start(spec, choose(spec, None)), lambda *_: None)


def small_case(seed: int, objective: str, gpus: int = 5) -> Case:
    """At most `gpus` GPUs, 2 to 6 layers, at most 8 running requests: few enough to try everything."""
    rng = random.Random(seed)
    needs_load = objective in ("cost", "mean")
    arrivals = needs_load or (objective != "throughput" and rng.random() < 0.5)
    rules = rng.sample([r for r in RULES if " or " not in r], rng.choice([0, 0, 1, 1, 2, 3]))
    return Case(
        "\n".join(
            (
                *_gpus(rng, 3),
                _cluster(rng, gpus, priced=True),
                _model(rng, rng.choice([2, 4, 5, 6, 6])),
                _workload(rng, arrivals),
                _serve(rng, rules, OBJECTIVES[objective], f"max_batch = {rng.choice([1, 4, 8])}"),
            )
        )
    )


def wide_case(seed: int) -> Case:
    """Anything goes: 1 to 4 groups of machines, up to dozens of GPUs, any model, rules and objective."""
    rng = random.Random(seed)
    rules = rng.sample(RULES, rng.choice([0, 0, 1, 2, 3]))
    objective = rng.choice(["", *OBJECTIVES.values()])
    batch = f"max_batch = {rng.choice([1, 16, 256, 300])}"
    return Case(
        "\n".join(
            (
                *_gpus(rng, 4),
                _cluster(rng, rng.choice([1, 3, 8, 9, 24, 70]), priced=rng.random() < 0.7),
                _model(rng, rng.choice([1, 3, 12, 24])),
                _workload(rng, rng.random() < 0.5),
                _serve(rng, rules, objective, batch),
            )
        )
    )


def _gpus(rng: random.Random, kinds: int) -> list[str]:
    sizes = [110, 120, 130, 150, 180] if rng.random() < 0.6 else [150, 180, 230, 300, 500]
    return [
        f"gpu g{i} {{ memory = {rng.choice(sizes)}MB, reserve = 10MB, "
        f"bandwidth = {rng.randint(50, 900)}GB/s, power = {rng.randint(50, 400)}W, "
        f"{rng.choice(['bf16', 'fp16', 'fp32'])} = {rng.randint(5, 90)}TFLOP/s }}"
        for i in range(kinds)
    ]


def _cluster(rng: random.Random, gpus: int, priced: bool) -> str:
    lines, names, left = [], [], gpus
    for i in range(rng.randint(1, 4)):
        size = min(left, rng.choice([1, 1, 2, 2, 3, 4] if gpus <= 5 else [1, 2, 3, 4, 5, 8]))
        count = rng.randint(1, max(1, min(3 if gpus <= 5 else 8, left // max(size, 1))))
        if size < 1:
            break
        left -= size * count
        names.append(f"n{i}")
        price = f", price = ${rng.randint(20, 300) / 100:.2f}/gpu/h" if priced else ""
        inside = rng.choice(["", f", interconnect = {rng.randint(2, 600)}GB/s"])
        nic = rng.choice(["", f", nic = {rng.randint(1, 400)}Gb/s"])
        lines.append(f"  nodes n{i} {{ count = {count}, gpus = {size} * g{rng.randrange(3)}{price}{inside}{nic} }}")
    for i, a in enumerate(names):
        for b in names[:i]:
            if rng.random() < 0.7:
                lines.append(
                    f"  {a} <-> {b} {{ bandwidth = {rng.randint(1, 400)}Gb/s, latency = {rng.randint(1, 900)}us }}"
                )
    return "cluster c {\n" + "\n".join(lines) + "\n}"


def _model(rng: random.Random, layers: int) -> str:
    shape = rng.choice([TINY, TINY, MOE, MLA]).format(
        kv=rng.choice([1, 2, 4, 8]), tied=rng.choice(["true", "false"]), dense=rng.choice([0, 1]) if layers > 1 else 0
    )
    weights = rng.choice(["bf16", "bf16", "fp16", "fp8", "int4(group = 64)"])
    kv = rng.choice(["", ", kv = fp8"])
    return f"model m {{ layers = {layers}, {shape}, weights = {weights}{kv} }}"


def _workload(rng: random.Random, arrivals: bool) -> str:
    prompt = rng.choice(["{}tok", "lognormal(median = {}, p95 = 900)", "uniform(low = 1, high = {})"]).format(
        rng.randint(50, 600)
    )
    output = rng.choice(["{}tok", "lognormal(median = {}, p95 = 300)"]).format(rng.randint(5, 120))
    rate = f"arrivals = poisson({rng.choice([0.5, 3, 12, 40, 120])}req/s), " if arrivals else ""
    return f"workload w {{ {rate}prompt = {prompt}, output = {output} }}"


def _serve(rng: random.Random, rules: list[str], objective: str, batch: str) -> str:
    context = rng.choice(["", "\n  context = 1000tok", "\n  context = 2048tok"])
    numbers = {
        "n": rng.randint(1, 4), "dollars": rng.uniform(0.3, 6), "fast": rng.randint(1, 60),
        "slow": rng.randint(50, 900), "late": rng.randint(200, 5000), "rate": rng.uniform(0.5, 20),
    }  # fmt: skip
    written = "\n  ".join(r.format(**numbers) for r in rules)
    return f"serve s {{\n  model = m\n  on = c\n  workload = w\n  {batch}{context}\n  {written}\n  {objective}\n}}"
