"""Every command, end to end: what it prints where, and its exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_harness import Hexc, Said, executable

from hexdsl import __version__, load
from hexdsl.ir.diagnostic import LimitError
from hexdsl.ir.plan import Plan
from hexdsl.pipeline import SERVE

Golden = Callable[[Path, str], None]
QUICKSTART = Path(__file__).parents[2] / "specs" / "serve" / "quickstart.hex"
BIGGER = ("nodes here { gpus = 2", "nodes here { gpus = 4")


@pytest.fixture
def bundle(hexc: Hexc, spec: Path, tmp_path: Path) -> Path:
    assert hexc("compile", spec, "-o", tmp_path / "bundle").code == 0
    return tmp_path / "bundle"


@pytest.fixture
def plan(hexc: Hexc, spec: Path, tmp_path: Path) -> Path:
    assert hexc("plan", spec, "--save", tmp_path / "plan.json").code == 0
    return tmp_path / "plan.json"


def test_check_talks_and_prints_no_data(hexc: Hexc, spec: Path) -> None:
    said = hexc("check", spec)
    assert (said.code, said.out) == (0, "")
    assert "all well (serve small, 1 cluster, 1 model, 1 workload, 1 gpu)" in said.err


def test_warnings_are_talk(hexc: Hexc, spec: Path) -> None:
    spec.write_text(spec.read_text() + "\nparam idle = 3\n")
    for command in ("check", "plan"):
        said = hexc(command, spec)
        assert said.code == 0
        assert "warning[W002]" in said.err
        assert "W002" not in said.out
    assert "W002" in [d["code"] for d in hexc("check", spec, "--json").json["diagnostics"]]
    assert "warning[W002]" in hexc("plan", spec, "--json").err


def test_plan_of_the_quickstart(hexc: Hexc, golden: Golden) -> None:
    said = hexc("plan", QUICKSTART)
    assert (said.code, said.err) == (0, "")
    lasting = re.sub(r"HiGHS [\d.]+", "HiGHS", re.sub(r"(plan|spec) [0-9a-f]{12}", r"\1 DIGEST", said.out))
    golden(Path(__file__).parent / "quickstart.txt", lasting)


def test_plan_json_is_the_saved_plan_and_the_bundles(hexc: Hexc, spec: Path, plan: Path, bundle: Path) -> None:
    printed = hexc("plan", spec, "--json").out
    assert printed == plan.read_text() == (bundle / "plan.json").read_text()
    assert Plan.model_validate(json.loads(printed)).spec_digest == load(spec).spec.digest()


def test_compile_writes_a_bundle_that_is_ready_to_run(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    said = hexc("compile", spec, "-o", tmp_path / "new" / "my bundle")
    assert (said.code, said.out) == (0, "")
    assert "hexc run '" in said.err
    subprocess.run(["bash", "-n", tmp_path / "new" / "my bundle" / "launch.sh"], check=True)
    again = hexc("compile", spec, "-o", tmp_path / "new" / "my bundle", "--force", "--json")
    assert f"\nplan {again.json['digest']}, spec " in hexc("plan", spec).out


def test_defines_reach_the_plan(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "rates.hex").write_text("rate = 0.2req/s\n")
    given = hexc("plan", spec, "-D", "rate=0.2req/s", "--json").out
    assert given == hexc("plan", spec, "--params", tmp_path / "rates.hex", "--json").out
    assert given != hexc("plan", spec, "--json").out


def test_workflow_chooses(hexc: Hexc, spec: Path) -> None:
    spec.write_text(spec.read_text() + "\nserve other : small {\n  context = 512tok\n}\n")
    unclear = hexc("plan", spec)
    assert unclear.code == 2
    assert "--workflow other" in unclear.err
    assert hexc("plan", spec, "--workflow", "other", "--json").json["name"] == "other"
    assert hexc("plan", spec, "--workflow", "third").code == 2


def test_machine_made_spec_plans_the_same(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    made.write_text(json.dumps(load(spec).spec.model_dump(mode="json")))
    assert hexc("plan", made, "--from-json", "--json").out == hexc("plan", spec, "--json").out
    assert hexc("check", made, "--from-json").code == 0
    refused = hexc("plan", made, "--from-json", "-D", "rate=1req/s")
    assert refused.code == 2
    assert "E031" in refused.err


def test_bundles_of_machine_made_specs_find_their_weights(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(json.dumps(load(spec).spec.model_dump(mode="json")))
    hexc("compile", spec, "-o", tmp_path / "a")
    hexc("compile", tmp_path / "made.json", "--from-json", "-o", tmp_path / "b")
    assert (tmp_path / "a" / "launch.sh").read_text() == (tmp_path / "b" / "launch.sh").read_text()


def test_machine_made_spec_with_a_mistake(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text('{"name": "x", "gpus": [{"kind": "gpu", "name": "g", "memory_byte": 1}]}')
    said = hexc("check", tmp_path / "made.json", "--from-json")
    assert said.code == 1
    assert "error[E160]: `gpus.0`: " in said.err
    assert "`memory_byte`" in said.err


@pytest.mark.parametrize(
    "command", [("explain",), ("explain", "?", "memory"), ("graph",), ("graph", "?", "--text"), ("report",)]
)
def test_spec_plan_and_bundle_look_alike(
    command: tuple[str, ...], hexc: Hexc, spec: Path, plan: Path, bundle: Path
) -> None:
    name, *more = (w for w in command if w != "?")
    seen = {hexc(name, subject, *more).out for subject in (spec, plan, bundle)}
    assert len(seen) == 1
    assert next(iter(seen)).strip()


def test_report_to_a_file(hexc: Hexc, plan: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = hexc("report", plan, "-o", page)
    assert (said.code, said.out) == (0, "")
    assert page.read_text().rstrip() == hexc("report", plan).out.rstrip()


def test_diff(hexc: Hexc, spec: Path, plan: Path, bundle: Path) -> None:
    assert hexc("diff", plan, bundle).code == 0
    spec.write_text(spec.read_text().replace(*BIGGER))
    said = hexc("diff", bundle, spec)
    assert said.code == 1
    assert said.out.strip()
    assert hexc("diff", bundle, spec, "--json").code == 1
    assert hexc("diff", bundle, bundle / "no.json").code == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format_version": "1.0"}', "\ud800"])
def test_what_is_no_plan(text: str, hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for subject in (tmp_path / "plan.json", tmp_path):
        said = hexc("explain", subject)
        assert said.code == 2
        assert "error[P013]" in said.err


def _truncated(text: str) -> str:
    return text[: len(text) // 2]


def _of_another_hexc(text: str) -> str:
    return text.replace('"hexc_version": "', '"hexc_version": "9.9-', 1).replace('"stages"', '"stage"', 1)


@pytest.mark.parametrize(
    ("damage", "message", "help_"),
    [
        (_truncated, "is not a whole plan: it ends in the middle (line", "hexc plan SPEC --save plan.json"),
        (lambda t: t[1:], "is not a whole plan: `:` does not fit in line", "plan the spec again"),
        (lambda t: t.replace('"stages"', '"stage"', 1), "`replicas.0`: `stages` is missing", "plan the spec again"),
        (lambda t: re.sub(r'"kv_tokens": \d+', '"kv_tokens": "many"', t), "`replicas.0.kv_tokens`: a string", "again"),
        (lambda t: t.replace('"memory_bytes": ', '"memory_bytes": -', 1), ".memory_bytes`: `memory` must be", "again"),
        (lambda t: t.replace('"kind": "serve"', '"kind": "swerve"', 1), "did you mean `serve`?", "again"),
        (lambda t: t.replace('"kind": "serve",', "", 1), "`workflow`: `kind` is missing", "again"),
        (lambda t: t.replace('"name"', '"nom"', 1), "`name` is missing", "again"),
        (_of_another_hexc, "`replicas.0`: `stages` is missing", "written by another hexc (9.9-"),
    ],
)
def test_damage_is_told_in_our_words(
    damage: Callable[[str], str], message: str, help_: str, hexc: Hexc, plan: Path
) -> None:
    plan.write_text(damage(plan.read_text()))
    said = hexc("graph", plan)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert help_ in said.err
    assert not re.search(r"[Ii]nput should|Field required|Extra inputs|Expecting|valid (integer|string|list)", said.err)


def test_a_folder_that_is_no_bundle(hexc: Hexc, tmp_path: Path) -> None:
    said = hexc("explain", tmp_path)
    assert said.code == 2
    assert "is not a bundle: it has no plan.json" in said.err


def test_plan_of_another_format(hexc: Hexc, plan: Path) -> None:
    plan.write_text(plan.read_text().replace('"format_version": "1.0"', '"format_version": "7.0"', 1))
    said = hexc("graph", plan)
    assert said.code == 2
    assert "has the plan format `7.0`; hexc" in said.err
    assert "plan the spec again" in said.err


def test_explain_code(hexc: Hexc) -> None:
    page = hexc("explain", "P001")
    assert page.code == 0
    assert "P001" in page.out
    unknown = hexc("explain", "P019")
    assert unknown.code == 2
    assert "help: the nearest are `P0" in unknown.err
    assert hexc("explain", "P001", "--json").json["page"] == page.out
    assert hexc("explain", "p001").out == page.out


@pytest.mark.parametrize(
    ("code", "help_"),
    [
        ("S999", "the nearest are `S081`, `S090`, `S091`"),
        ("E12", "the nearest are `E010`, `E011`, `E012`"),
        ("X001", "a code begins with `S` (syntax)"),
    ],
)
def test_help_for_an_unknown_code_is_about_its_letter(code: str, help_: str, hexc: Hexc) -> None:
    said = hexc("explain", code)
    assert said.code == 2
    assert f"there is no code `{code}`" in said.err
    assert help_ in said.err


def test_explain_what_is_not_there(hexc: Hexc, plan: Path) -> None:
    assert hexc("explain", plan, "nonsense").code == 2


def test_print_after_prints_that_plan_only(hexc: Hexc, spec: Path) -> None:
    early = hexc("plan", spec, "--print-after", "precision").json
    assert early["precision"]
    assert not early["replicas"]
    assert hexc("plan", spec, "--print-after", "precision", "--json").json == early
    unknown = hexc("plan", spec, "--print-after", "precisoin")
    assert unknown.code == 2
    assert "did you mean `precision`" in unknown.err


def test_time_passes_is_talk(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    for command in (("plan", spec), ("compile", spec, "-o", tmp_path / "out")):
        said = hexc(*command, "--time-passes")
        assert [line.split()[0] for line in said.err.splitlines() if line.endswith(" s")] == [p.name for p in SERVE]
        assert " s\n" not in said.out


def test_schema(hexc: Hexc) -> None:
    whole, serve = hexc("schema"), hexc("schema", "serve")
    assert serve.out.strip() in whole.out
    assert list(hexc("schema", "serve", "--json").json) == ["format_version", "serve"]
    for json_too in ((), ("--json",)):
        unknown = hexc("schema", "sevre", *json_too)
        assert unknown.code == 2
        assert "did you mean `serve`" in unknown.err + unknown.out


def test_lists(hexc: Hexc) -> None:
    assert "torch" in hexc("targets").out
    assert [line.split()[0] for line in hexc("passes").out.splitlines()[1 : len(SERVE) + 1]] == [p.name for p in SERVE]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_parses(shell: str, hexc: Hexc) -> None:
    script = hexc("completion", shell).out
    assert "print-after" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_completion_completes_in_bash(hexc: Hexc) -> None:
    ask = "COMP_WORDS=(hexc pl) COMP_CWORD=1; _hexc; echo ${COMPREPLY[@]}\n"
    ask += "COMP_WORDS=(hexc plan --ti) COMP_CWORD=2; _hexc; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash"], input=hexc("completion", "bash").out + ask, text=True, check=True, capture_output=True
    )
    assert done.stdout.split() == ["plan", "--time-passes"]


def test_a_limit_that_ended_the_search(hexc: Hexc, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        raise LimitError([])

    monkeypatch.setattr("hexdsl.pipeline.plan_spec", give_up)
    assert hexc("plan", spec).code == 4


def test_a_kind_that_is_not_planned_yet(hexc: Hexc) -> None:
    said = hexc("plan", QUICKSTART.parents[1] / "pretrain" / "aligned.hex")
    assert said.code == 3
    assert "error[P003]" in said.err


@pytest.mark.parametrize("as_module", [False, True])
def test_version(as_module: bool) -> None:
    import sys

    command = [sys.executable, "-m", "hexdsl"] if as_module else [Path(sys.executable).with_name("hexc")]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"hexc {__version__}\n"


def test_same_bytes_from_two_processes(spec: Path) -> None:
    runs: list[Said] = [executable("plan", spec, "--json", PYTHONHASHSEED=seed) for seed in "12"]
    assert runs[0] == runs[1]
    assert runs[0].code == 0
