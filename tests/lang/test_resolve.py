"""From text to a `Spec`: units, parameters, names, bases, defaults, and the machine-made form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hexdsl.api import load, load_json, load_text
from hexdsl.ir.diagnostic import SpecError, UsageError
from hexdsl.ir.spec import Spec
from hexdsl.lang.resolve import Loaded, Options

SMALL = """
gpu G { memory = 80GB, bandwidth = 3TB/s, bf16 = 900TFLOP/s, price = $2/gpu/h }
cluster c { nodes n { gpus = 8 * G } }
model m { layers = 32, hidden = 4096, heads = 32, ffn = 11008, vocab = 32000 }
workload w { arrivals = poisson(1req/s) }
"""
SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.hex"))


def spec(text: str, **defines: str) -> Spec:
    return load_text(SMALL + text, options=Options(tuple(defines.items()))).spec


def serve(text: str, **defines: str) -> Any:
    return spec(f"serve s {{ model = m, on = c, {text} }}", **defines).workflows[0]


def rules(workflow: Any) -> list[str]:
    return [rule.text for rule in workflow.rules]


# Units.


@pytest.mark.parametrize(
    ("field", "value", "base"),
    [
        ("memory", "80GB", 80e9),
        ("memory", "80GiB", 80 * 2**30),
        ("bandwidth", "8 * 400Gb/s", 400e9),
        ("bandwidth", "3.35TB/s", 3.35e12),
        ("bf16", "989TFLOP/s", 989e12),
        ("price", "$3.60/gpu/h", 0.001),
        ("power", "0.7kW", 700.0),
        ("sm", "9 * 10", 90),
    ],
)
def test_a_field_holds_base_units(field: str, value: str, base: float) -> None:
    given = {"memory": "1GB", "bandwidth": "1GB/s"} | {field: value}
    gpu = spec(f"gpu X {{ {', '.join(f'{k} = {v}' for k, v in given.items())} }}").gpus[-1]
    assert getattr(gpu, field) == pytest.approx(base)


def test_a_count_of_gpus_may_stand_on_either_side() -> None:
    nodes = spec("cluster d { nodes a { gpus = G }, nodes b { gpus = 8 * G }, nodes e { gpus = G * 2 } }").clusters[1]
    assert [(n.gpus.count, n.gpus.gpu.name) for n in nodes.nodes] == [(1, "G"), (8, "G"), (2, "G")]


def test_ranges_lists_and_items() -> None:
    text = "let xs = [4, 8]\nagentic a { on = c, stage x { model = m, repeat = 0..3, samples = xs[1] } }"
    stage = spec(text).workflows[0].stage[0]
    assert (stage.repeat.low, stage.repeat.high, stage.samples) == (0, 3, 8)


# Parameters and lets.

RATE = "param rate: Rate = 12req/s\nlet twice = 2 * rate\nworkload x { arrivals = poisson(twice) }"


def test_a_parameter_has_its_default_or_what_is_given() -> None:
    assert spec(RATE).workloads[1].arrivals.rate == 24
    assert spec(RATE, rate="20req/s").workloads[1].arrivals.rate == 40
    assert spec(RATE).parameters == {"rate": "12req/s"}
    assert spec(RATE, rate="20req/s").parameters == {"rate": "20req/s"}


def test_one_parameter_may_be_given_another() -> None:
    text = (
        "param a = 1req/s\nparam b = 2req/s\nworkload x { arrivals = poisson(a) }\nworkload y { arrivals = poisson(b) }"
    )
    found = spec(text, a="b", b="5req/s").workloads[1:]
    assert [w.arrivals.rate for w in found] == [5, 5]


def test_a_parameter_may_name_a_block() -> None:
    text = "param which = m\nmodel n : m { layers = 2 }\nserve s { model = which, on = c }"
    assert spec(text).workflows[0].model.name == "m"
    assert spec(text, which="n").workflows[0].model.name == "n"


def test_a_file_of_parameters_gives_way_to_the_command_line(tmp_path: Path) -> None:
    path, params = tmp_path / "a.hex", tmp_path / "p.hex"
    path.write_text(
        "param a = 1\nparam b = 1\nlet both = [a, b]\n"
        "model m { layers = both[0], heads = both[1], hidden = 64, ffn = 1, vocab = 1 }"
    )
    params.write_text("a = 2\nb = 2\n")
    model = load(path, {"b": "4"}, [params]).spec.models[0]
    assert (model.layers, model.heads) == (2, 4)


def test_a_parameter_of_an_alias_is_not_that_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "lib.hex").write_text("param rate = 3req/s\nworkload x { arrivals = poisson(rate) }\n")
    root = tmp_path / "a.hex"
    root.write_text(
        f'import "lib.hex" as lib\nparam rate = 1req/s\n{SMALL}serve s {{ model = m, on = c, workload = lib.x }}\n'
    )
    loaded = load(root, {"rate": "9req/s"})
    assert loaded.spec.workflows[0].workload.arrivals.rate == 3
    assert [d.code for d in loaded.diagnostics] == ["W002"]


@pytest.mark.parametrize("define", ["rat=1req/s", "rate=1s", "rate=(1req/s", "rate=1req/s\nx = 2", "rate=1req/s }"])
def test_a_wrong_definition_is_wrong_usage(define: str) -> None:
    name, _, value = define.partition("=")
    with pytest.raises(UsageError):
        spec(RATE, **{name: value})


# Imports.


@pytest.fixture
def library(tmp_path: Path) -> Callable[[str], Spec]:
    """Loads a root file beside `lib/parts.hex`, which has the small blocks."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "parts.hex").write_text(SMALL)

    def read(text: str) -> Spec:
        (tmp_path / "root.hex").write_text(text)
        return load(tmp_path / "root.hex").spec

    return read


def test_an_alias_keeps_its_names_apart(library: Callable[[str], Spec]) -> None:
    text = 'import "lib/parts.hex" as lib\nmodel m : lib.m { layers = 2 }\nserve s { model = m, on = lib.c }\n'
    found = library(text).workflows[0]
    assert (found.model.layers, found.on.name) == (2, "c")


def test_imported_blocks_are_used_but_not_listed(library: Callable[[str], Spec]) -> None:
    found = library('import "lib/parts.hex"\nserve s { model = m, on = c }\n')
    assert found.models == found.clusters == ()
    assert found.workflows[0].model.layers == 32


def test_a_file_is_one_however_often_it_is_imported(library: Callable[[str], Spec]) -> None:
    text = 'import "lib/parts.hex"\nimport "lib/../lib/parts.hex"\nimport "lib/parts.hex" as p\n'
    assert library(text + "serve s { model = p.m, on = c }\n").workflows


def test_the_catalog_is_found_from_everywhere(library: Callable[[str], Spec]) -> None:
    text = 'import "std/gpus.hex"\nimport "std/../std/gpus.hex"\ncluster d { nodes n { gpus = H100 } }\n'
    assert library(text).clusters[0].nodes[0].gpus.gpu.name == "H100"


# Bases.


def test_a_base_gives_what_is_not_written() -> None:
    found = spec("model x : m { layers = 2 }\nmodel y : x { heads = 16 }").models
    assert [(x.name, x.layers, x.heads) for x in found] == [("m", 32, 32), ("x", 2, 32), ("y", 2, 16)]


def test_a_named_block_takes_the_place_of_its_namesake() -> None:
    text = """
    cluster d : c { nodes k { gpus = 2 * G }, n <-> k { bandwidth = 1Gb/s } }
    cluster e : d { nodes n { gpus = 4 * G }, k <-> n { bandwidth = 8Gb/s } }
    """
    _, d, e = spec(text).clusters
    assert [(n.name, n.gpus.count) for n in d.nodes] == [("n", 8), ("k", 2)]
    assert sorted((n.name, n.gpus.count) for n in e.nodes) == [("k", 2), ("n", 4)]
    assert [link.bandwidth for link in e.links] == [1e9]


def test_rules_add_up_but_pins_and_objectives_are_replaced() -> None:
    text = """
    serve a { model = m, on = c, tp = 4, cost <= $40/h, minimize cost }
    serve b : a { tp = 2, p95(ttft) <= 1s, maximize goodput }
    serve d : a { }
    """
    a, b, d = spec(text).workflows
    assert rules(b) == ["cost <= $40/h", "tp = 2", "p95(ttft) <= 1s"]
    assert [o.text for o in b.objectives] == ["maximize goodput"]
    assert rules(d) == rules(a) == ["tp = 4", "cost <= $40/h"]
    assert d.objectives == a.objectives


def test_a_list_is_replaced_as_a_whole() -> None:
    text = """
    cluster d { nodes n { count = 2, gpus = G, hosts = ["a", "b"] } }
    cluster e : d { nodes n { gpus = G, hosts = ["z"] } }
    """
    assert spec(text).clusters[2].nodes[0].hosts == ("z",)


def test_targets_of_the_file_hold_where_there_are_no_others() -> None:
    text = (
        "target torch { ports = 2000 }\nserve a { model = m, on = c }\nserve b { model = m, on = c, target vllm { } }"
    )
    assert [[t.name for t in w.target] for w in spec(text).workflows] == [["torch"], ["vllm"]]


# Rules.


def test_a_pin_is_a_rule() -> None:
    assert serve("tp = 4").rules[0].expr == serve("tp == 4").rules[0].expr


def test_a_rule_holds_base_units_and_the_users_text() -> None:
    rule = serve("p95(ttft)   <= 400ms").rules[0]
    assert (rule.text, rule.expr.right.value, rule.expr.right.unit) == ("p95(ttft) <= 400ms", 0.4, "s")


# Defaults.


def pins(found: Spec) -> list[str]:
    return [d.pin for d in found.defaults]


def test_a_default_that_matters_is_told_once() -> None:
    assert "utilization = 90%" in pins(spec("serve s { model = m, on = c }"))
    assert "utilization = 90%" not in pins(spec("serve s { model = m, on = c, utilization = 80% }"))
    assert "prompt = 1000tok" in pins(spec("serve s { model = m, on = c, workload = w }"))


# The machine-made form.


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_json_and_back(path: Path) -> None:
    loaded = load(path)
    again = load_json(json.dumps(loaded.spec.model_dump(mode="json")))
    assert again.spec == loaded.spec
    assert again.spec.digest() == loaded.spec.digest()


RULED = """
param most = $40/h
serve s {
  model = m
  on    = c

  goodput >= 12req/s
  cost <= most
  maximize goodput
  minimize cost
}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("80GB", "80_000MB"),
        ("\nserve", "\n\n# a comment\nserve"),
        ("  goodput >= 12req/s\n  cost <= most", "  cost   <= most\n  goodput >= 12_000req/s / 1000"),
        ("cost <= most", "cost <= $40/h"),
        (SMALL, SMALL + 'let spare = "x"\n'),
        ("param most = $40/h", "param most = $20/h * 2"),
    ],
)
def test_a_digest_does_not_change_with_the_writing(old: str, new: str) -> None:
    text = SMALL + RULED
    assert old in text
    assert load_text(text).spec.digest() == load_text(text.replace(old, new)).spec.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("80GB", "81GB"),
        ("12req/s", "13req/s"),
        ("goodput >=", "goodput >"),
        ("cost <= most", "cost <= most\n  cost <= $50/h"),
        ("  maximize goodput\n  minimize cost", "  minimize cost\n  maximize goodput"),
        ("$40/h", "$41/h"),
    ],
)
def test_a_digest_changes_with_the_meaning(old: str, new: str) -> None:
    text = SMALL + RULED
    assert old in text
    assert load_text(text).spec.digest() != load_text(text.replace(old, new)).spec.digest()


def test_the_places_of_rules_stay_in_the_spec() -> None:
    text = SMALL + RULED
    written = load_text(text).spec.model_dump(mode="json")["workflows"][0]["rules"][0]
    assert written["text"] == "goodput >= 12req/s"
    assert text.split("\n")[written["span"]["line"] - 1].strip() == "goodput >= 12req/s"


def machine(change: Callable[[dict[str, Any]], object]) -> Loaded:
    data = spec("serve s { model = m, on = c, minimize cost }").model_dump(mode="json")
    change(data)
    return load_json(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(extra=3), "there is no `extra` here"),
        (lambda d: d.pop("name"), "`name` is missing"),
        (lambda d: d["workflows"][0].pop("model"), "`model` is missing"),
        (lambda d: d["workflows"][0].update(kind="srve"), "`srve` is not known here"),
        (lambda d: d["workflows"][0].update(name="a; rm -rf"), "cannot be a name"),
        (lambda d: d["workflows"][0]["on"].update(nodes=[]), "has no machines"),
        (lambda d: d["models"][0].update(kv_heads=5), "cannot be shared out"),
        (lambda d: d["models"][0].update(layers=2.5), "`2.5` is not a whole number"),
        (lambda d: d["gpus"].append(d["gpus"][0]), "declared twice"),
        (lambda d: d["gpus"][0].update(memory_bytes=-1), "must be more than zero"),
        (lambda d: d["gpus"][0].update(sm=10**30), "out of range"),
        (lambda d: d.update(format_version="9.0"), "reads format 1.0"),
        (lambda d: d.update(workflows="none"), "`workflows`: a string stands where a list is wanted"),
    ],
)
def test_a_wrong_machine_made_spec(change: Callable[[dict[str, Any]], object], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        machine(change)
    found = caught.value.diagnostics
    assert {d.code for d in found} == {"E160"}
    assert says in found[0].message


@pytest.mark.parametrize("text", ["", "{", "3", "[]", "[" * 100_000, '{"name": NaN}', "9" * 5000, '{"name": "x"} x'])
def test_what_is_no_machine_made_spec(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_json(text)
    assert [d.code for d in caught.value.diagnostics] == ["E160"]
