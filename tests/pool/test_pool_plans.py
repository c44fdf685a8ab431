"""Pools of peers behind the product: plans of random inventories, links, groups of peers, churn."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from hexdsl.api import Loaded, load, load_text, plan
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec import Spec
from hexdsl.lang.resolve import Options
from hexdsl.passes.inventory import groups_of
from hexdsl.passes.pool.chains import copies, covered
from hexdsl.passes.pool.crowd import MOST_GROUPS
from hexdsl.passes.serve.adapter import network_of
from hexdsl.passes.serve.verify import faults_of

SPEC = """
gpu big {{ memory = 48GB, bandwidth = 768GB/s, bf16 = 150TFLOP/s, price = $1/gpu/h }}
gpu small {{ memory = 24GB, bandwidth = 900GB/s, bf16 = 80TFLOP/s, price = $0.5/gpu/h }}
cluster c {{
  peers = file("{peers}")
  churn = 5%/h
  region eu {{ latency = 10ms }}
  region us {{ bandwidth = 50Mb/s }}
  region asia {{}}
  eu <-> us {{ latency = 40ms, bandwidth = 100Mb/s }}
  us <-> asia {{ latency = 70ms, bandwidth = 80Mb/s }}
}}
model m {{
  layers = {layers}, hidden = 4096, heads = 32, kv_heads = 8, ffn = 14336, vocab = 128_000
}}
workload w {{ prompt = fixed(300tok), output = fixed(100tok){arrivals} }}
serve s {{
  model = m, on = c, workload = w
  routing = per_request(cost = latency)
  {rules}
}}
"""


def spec_of(folder: Path, rows: str, layers: int = 32, rules: str = "", arrivals: str = "") -> Spec:
    (folder / "peers.csv").write_text("name,gpu,up,down,region,gpus,rtt\n" + rows, encoding="utf-8")
    text = SPEC.format(peers=folder / "peers.csv", layers=layers, rules=rules, arrivals=arrivals)
    return load_text(text, "case.hex", Options(allow=(folder,))).spec


def planned(spec: Spec) -> Plan:
    return plan(Loaded(spec, {}, (), Path()))


def planned_or_codes(spec: Spec) -> Plan | set[str]:
    try:
        return planned(spec)
    except NoPlanError as error:
        return {d.code for d in error.diagnostics}


def room(spec: Spec) -> int:
    """Layers that fit on all peers together beside 5 GB of buffers, KV cache and vocabulary each."""
    peers = spec.clusters[0].peers
    assert peers
    memory = {g.name: g.memory for g in peers.gpus}
    layer = 2 * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336)
    return sum(p.gpus * int((0.9 * memory[p.gpu] - 5e9) / layer) for p in peers.rows)


def random_rows(rng: random.Random, count: int) -> str:
    return "".join(
        f"p{i},{rng.choice(['big', 'small'])},{rng.randint(5, 500)}Mb/s,{rng.randint(50, 900)}Mb/s,"
        f"{rng.choice(['eu', 'us', 'asia'])},{rng.choice([1, 1, 1, 1, 2])},{rng.randint(0, 40)}ms\n"
        for i in range(count)
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_random_pool_is_planned_or_refused_with_the_reason(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    rules = rng.choice(["", "replicas >= 2", "p95(ttft) <= 3s", "cost <= $3/h", "minimize mean(latency)"])
    arrivals = rng.choice(["", ", arrivals = poisson(0.3req/s)"])
    layers = rng.choice([16, 40, 80])
    spec = spec_of(tmp_path, random_rows(rng, rng.choice([1, 3, 5, 14, 24])), layers, rules, arrivals)
    made = planned_or_codes(spec)
    if isinstance(made, set):
        assert made <= ({"P001", "P002", "P014"} if rules or arrivals else {"P002"})
        assert "P002" not in made or room(spec) < 1.5 * layers
        return
    assert list(faults_of(made)) == []
    assert made.chains
    assert copies(h.layers for h in made.chains.holders) >= len(made.replicas)
    assert made.availability
    assert 0 < made.availability.replicas <= 1


def test_a_pool_that_just_holds_the_model_is_planned(tmp_path: Path) -> None:
    """Nine machines, beyond exhaustive search, of which all but one are needed and no two are alike."""
    rows = "".join(f"p{i},small,{100 + i}Mb/s,300Mb/s,eu,1,{i}ms\n" for i in range(9))
    made = planned(spec_of(tmp_path, rows, layers=320))
    assert len(made.replicas) == 1
    with pytest.raises(NoPlanError) as caught:
        planned(spec_of(tmp_path, rows.partition("p6")[0], layers=320))
    assert [d.code for d in caught.value.diagnostics] == ["P002"]


def test_links_are_the_least_of_both_ends_and_the_way(tmp_path: Path) -> None:
    rows = "a,big,20Mb/s,90Mb/s,eu,1,8ms\nb,big,200Mb/s,10Mb/s,asia,1,0ms\nc,big,30Mb/s,90Mb/s,us,1,2ms\n"
    cluster = spec_of(tmp_path, rows).clusters[0]
    network = network_of(cluster)
    name = {g.hosts[0]: g.name for g in groups_of(cluster)}

    def link(left: str, right: str) -> tuple[float, float]:
        found = network.link(name[left], name[right])
        assert found is not None
        return found.bandwidth * 8 / 1e6, round(found.latency_s * 1e3, 6)

    assert link("a", "b") == (10, 4 + 110)  # b takes no more; eu to asia leads over us
    assert link("b", "a") == (80, 110 + 4)  # the way between us and asia carries no more
    assert link("c", "a") == (30, 1 + 40 + 4)
    assert link("c", "c") == (30, 2 * 1 + 5)  # within us: its own 50Mb/s, and the usual latency
    assert link("a", "a") == (20, 2 * 4 + 10)


def test_many_peers_are_grouped_by_the_worst_of_each_group(tmp_path: Path) -> None:
    rng = random.Random(3)
    cluster = spec_of(tmp_path, random_rows(rng, 2000)).clusters[0]
    groups = groups_of(cluster)
    assert len(groups) <= MOST_GROUPS
    assert sum(g.count for g in groups) == 2000
    peers = {p.name: p for p in cluster.peers.rows}
    for group in groups:
        members = [peers[host] for host in group.hosts]
        assert {(p.gpu, p.gpus, p.region) for p in members} == {(group.gpus.gpu.name, group.gpus.count, group.region)}
        assert group.up == min(p.up for p in members)
        assert group.down == min(p.down for p in members)
        assert group.rtt == max(p.rtt for p in members)


def test_rules_of_a_pool_conflict_with_their_lines(tmp_path: Path) -> None:
    rows = "".join(f"p{i},big,100Mb/s,300Mb/s,eu,1,0ms\n" for i in range(4))
    with pytest.raises(NoPlanError) as caught:
        planned(spec_of(tmp_path, rows, layers=120, rules="replicas >= 3"))
    (found,) = caught.value.diagnostics
    assert found.code == "P001"
    assert found.labels


@pytest.mark.parametrize("seed", range(20))
def test_the_share_of_time_in_which_a_chain_is_whole_is_that_of_enumeration(seed: int) -> None:
    rng = random.Random(seed)
    layers = rng.randint(1, 6)
    holders = []
    for _ in range(rng.randint(1, 7)):
        first = rng.randrange(layers)
        holders.append((first, rng.randint(first + 1, layers), rng.uniform(0.3, 1)))
    expected = 0.0
    for there in product((False, True), repeat=len(holders)):
        share, held = 1.0, set[int]()
        for (first, end, p), is_there in zip(holders, there, strict=True):
            share *= p if is_there else 1 - p
            held |= set(range(first, end)) if is_there else set()
        expected += share * (len(held) == layers)
    assert covered(holders, layers) == pytest.approx(expected)


def test_copies_are_those_of_the_scarcest_layer() -> None:
    assert copies([(0, 4), (0, 2), (2, 4), (1, 3)]) == 2
    assert copies([(0, 2), (2, 4)]) == 1


@pytest.mark.parametrize("name", ["volunteers", "laptops"])
def test_the_plan_of_an_example(name: str, golden: Callable[[Path, str], None]) -> None:
    root = Path(__file__).parents[2]
    found = plan(load(root / "specs" / "pool" / f"{name}.hex"))
    assert found.chains
    assert found.certificates[0].exact
    lines = [
        f"{r.name}: {', '.join(f'layers {s.layers[0]} to {s.layers[1] - 1} on {s.machine}' for s in r.stages)}"
        for r in found.replicas
    ]
    lines += [f"{d.what}: {d.choice} ({d.reason})" for d in found.decisions if d.by == "chains"]
    golden(root / "tests" / "plans" / f"pool_{name}.txt", "\n".join((*lines, *found.notes, "")))
