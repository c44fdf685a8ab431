"""Every bad input that the project promises to answer: its exit code, its message's code, and no traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_harness import Hexc


@dataclass(frozen=True)
class Case:
    """Makes its files in a folder that holds `small.hex`; the words of the command; what must come of it."""

    argv: tuple[str, ...]
    exit_code: int
    code: str
    says: str
    make: Callable[[Path], object] = lambda _: None


def edit(*changes: tuple[str, str]) -> Callable[[Path], None]:
    """Changes in small.hex."""

    def change(folder: Path) -> None:
        text = (folder / "small.hex").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "small.hex").write_text(text)

    return change


def file(name: str, data: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def both(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: [make(folder) for make in makers] and None


PLAN = ("plan", "small.hex")
COMPILE = ("compile", "small.hex", "-o", "out")

CASES = {
    "missing file": Case(("check", "no.hex"), 2, "E001", "there is no file `no.hex`"),
    "missing file below a file": Case(("check", "small.hex/no.hex"), 2, "E001", "there is no file"),
    "folder": Case(("check", "."), 2, "E002", "is a folder"),
    "binary file": Case(("check", "a.hex"), 1, "S091", "not a text file", file("a.hex", bytes(range(256)) * 9)),
    "Latin-1 file": Case(("check", "a.hex"), 1, "S091", "not UTF-8", file("a.hex", b"# \xe9t\xe9\n")),
    "10 MB file": Case(("check", "a.hex"), 1, "S090", "larger than 1 MB", file("a.hex", b"# line\n" * 1_500_000)),
    "deep brackets": Case(("check", "a.hex"), 1, "S080", "deeper", file("a.hex", "let a = " + "[" * 9_000)),
    "deep blocks": Case(("check", "a.hex"), 1, "S080", "deeper", file("a.hex", "serve a {\n" * 9_000)),
    "long sum": Case(("check", "a.hex"), 1, "S081", "operators", file("a.hex", "let a = 1" + " + 1" * 90_000)),
    "cyclic import": Case(
        ("check", "a.hex"), 1, "E010", "a.hex -> b.hex -> a.hex",
        both(file("a.hex", 'import "b.hex"'), file("b.hex", 'import "a.hex"')),
    ),
    "import of itself": Case(("check", "a.hex"), 1, "E010", "cycle", file("a.hex", 'import "a.hex"')),
    "import outside the tree": Case(
        ("check", "sub/a.hex"), 1, "E011", "outside", file("sub/a.hex", 'import "../small.hex"')
    ),
    "import by an absolute path": Case(("check", "a.hex"), 1, "E011", "outside", file("a.hex", 'import "/etc/passwd"')),
    "import through a link that leaves the tree": Case(
        ("check", "sub/a.hex"), 1, "E011", "outside",
        both(file("sub/a.hex", 'import "link.hex"'), lambda f: (f / "sub/link.hex").symlink_to("../small.hex")),
    ),
    "import of a link to itself": Case(
        ("check", "a.hex"), 1, "E003", "loop.hex",
        both(file("a.hex", 'import "loop.hex"'), lambda f: (f / "loop.hex").symlink_to("loop.hex")),
    ),
    "import of an endless name": Case(
        ("check", "a.hex"), 1, "E003", "aaa", file("a.hex", f'import "{"a" * 5000}.hex"')
    ),
    "unknown unit": Case(("check", "small.hex"), 1, "E110", "`QB`", edit(("512MB", "512QB"))),
    "unit missing": Case(("check", "small.hex"), 1, "E110", "without a unit", edit(("512MB", "512"))),
    "unit of another dimension": Case(("check", "small.hex"), 1, "E110", "`512ms`", edit(("512MB", "512ms"))),
    "zero GPUs": Case(("check", "small.hex"), 1, "E113", "more than zero", edit(("2 * core", "0 * core"))),
    "no machines": Case(
        ("check", "small.hex"), 1, "E150", "no machines",
        edit(("nodes here { gpus = 2 * core, interconnect = 10GB/s }", "")),
    ),
    "GPU that cannot multiply": Case(PLAN, 3, "P002", "no compute rate", edit(("  fp32      = 60GFLOP/s\n", ""))),
    "model larger than all memory": Case(PLAN, 3, "P002", "does not fit", edit(("512MB", "100MB"))),
    "rate of zero": Case(
        ("check", "small.hex"), 1, "E113", "more than zero", edit(("poisson(rate)", "poisson(0req/s)"))
    ),
    "too many GPUs": Case(PLAN, 3, "P008", "2,000,000,000 GPUs", edit(("gpus = 2", "count = 1_000_000_000, gpus = 2"))),
    "rate of zero from outside": Case((*PLAN, "-D", "rate=0req/s"), 1, "E113", "more than zero"),
    "rules that contradict each other": Case(
        PLAN, 3, "P001", "cost >= $5/h",
        edit(("  maximize", "  cost <= $1/h\n  cost >= $5/h\n  maximize"), ("  bandw", "  price = $2/gpu/h\n  bandw")),
    ),
    "rule beyond all figures": Case(
        PLAN, 3, "P001", "1e30req/s", edit(("  maximize", "  goodput >= 1e30req/s\n  maximize"))
    ),
    "rule that nothing meets": Case((*PLAN, "-D", "slowest=1ms"), 3, "P001", "mean(tpot) <= slowest"),
    "-D of an unknown name": Case((*PLAN, "-D", "rte=1req/s"), 2, "E031", "did you mean `rate`"),
    "-D without a value": Case((*PLAN, "-D", "rate"), 2, "E031", "NAME=VALUE"),
    "-D of another type": Case((*PLAN, "-D", "rate=80GB"), 2, "E032", "rate"),
    "-D of no value at all": Case((*PLAN, "-D", "rate=]"), 2, "S", "-D rate"),
    "parameter without a value": Case(PLAN, 1, "E030", "no value", edit((" = 0.1req/s", ""))),
    "parameter file that is missing": Case((*PLAN, "--params", "no.hex"), 2, "E001", "no.hex"),
    "parameter file that is a spec": Case((*PLAN, "--params", "small.hex"), 1, "E012", "name = value"),
    "output folder not empty": Case(COMPILE, 2, "P010", "not empty", file("out/notes.txt", "mine")),
    "output folder not a bundle, by force": Case(
        (*COMPILE, "--force"), 2, "P010", "not a bundle", file("out/plan.json", "{}")
    ),
    "output folder is a file": Case((*COMPILE, "--force"), 2, "P010", "is a file", file("out", "mine")),
    "output folder below a file": Case(("compile", "small.hex", "-o", "small.hex/out"), 2, "P010", "cannot be written"),
    "output folder not writable": Case(("compile", "small.hex", "-o", "/proc/out"), 2, "P010", "cannot be written"),
    "output folder is the current one": Case(("compile", "small.hex", "-o", "."), 2, "P010", "current folder"),
    "plan file not writable": Case((*PLAN, "--save", "/proc/plan.json"), 2, "P010", "cannot be written"),
    "report not writable": Case(("report", "small.hex", "-o", "no/page.html"), 2, "P010", "cannot be written"),
    "unknown engine": Case((*COMPILE, "--target", "tensorflow"), 2, "P011", "tensorflow"),
    "block name that would inject": Case(
        ("check", "small.hex"), 1, "E105", "without quotes", edit(("serve small", 'serve "x; touch hacked"'))
    ),
    "block name with a shell's marks": Case(
        ("check", "small.hex"), 1, "S", "serve", edit(("serve small", "serve $(id)"))
    ),
    "host that would inject": Case(
        ("check", "small.hex"), 1, "E110", "not a host name", edit(("nodes here {", 'nodes here { hosts = ["$(id)"],'))
    ),
    "variable that would inject": Case(
        ("check", "small.hex"), 1, "E110", "not a variable's name",
        edit(("launcher = local", 'launcher = local, env = { "A;touch hacked" = "1" }')),
    ),
    "address that would inject": Case(
        ("check", "small.hex"), 1, "E110", "host", edit(("launcher = local", 'launcher = local, host = "$(id)"'))
    ),
    "no command": Case((), 2, "E004", "COMMAND"),
    "unknown command": Case(("paln", "small.hex"), 2, "E004", "paln"),
    "unknown option": Case((*PLAN, "--fast"), 2, "E004", "--fast"),
    "half an option": Case((*PLAN, "--work", "small"), 2, "E004", "--work"),
    "no bundle to run": Case(("run", "."), 2, "P013", "not a bundle"),
    "unknown code": Case(("explain", "E999"), 2, "E020", "E999"),
}  # fmt: skip


def codes(diagnostics: Iterable[dict[str, str]]) -> list[str]:
    return [d["code"] for d in diagnostics]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: Case, hexc: Hexc, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    case.make(spec.parent)
    before = sorted(p.name for p in spec.parent.rglob("*"))
    said = hexc(*case.argv)
    said.tidy()
    assert (said.code, said.out) == (case.exit_code, "")
    assert f"error[{case.code}" in said.err
    assert case.says in said.err
    as_json = hexc(*case.argv, "--json")
    as_json.tidy()
    assert (as_json.code, as_json.err) == (case.exit_code, "")
    assert next(iter(as_json.json)) == "format_version"
    assert any(code.startswith(case.code) for code in codes(as_json.json["diagnostics"]))
    assert sorted(p.name for p in spec.parent.rglob("*")) == before


EVIL = "a'; touch hacked; $(touch hacked) `touch hacked` \\\""
"""As it stands in a spec's string."""


def test_what_may_hold_anything_is_quoted(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    """Paths and values of variables are prose to hexc: they reach the script, and the shell does nothing with them."""
    import os
    import subprocess
    import sys

    edit(
        ('"models/smollm"', f'"{EVIL}"'), ("launcher = local", f'launcher = local, env = {{ "PROSE" = "{EVIL}" }}')
    )(tmp_path)  # fmt: skip
    assert hexc("compile", spec, "-o", tmp_path / "out").code == 0
    done = subprocess.run(
        [tmp_path / "out" / "launch.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env=os.environ | {"HEXC_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "a'; touch hacked; $(touch hacked)" in done.stderr
    assert not list(tmp_path.rglob("hacked"))


def test_thousands_of_messages_are_counted_and_not_all_shown(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "many.hex").write_text("serve s {\n" + "".join(f"  x{i} = 1\n" for i in range(3000)) + "}\n")
    said = hexc("check", tmp_path / "many.hex")
    assert said.code == 1
    assert said.err.count("error[E101]") == 49
    assert "3001 errors; the first 50 messages of 3001 are shown" in said.err
    assert len(hexc("check", tmp_path / "many.hex", "--json").json["diagnostics"]) == 3001


def test_an_error_is_shown_before_many_warnings(hexc: Hexc, tmp_path: Path) -> None:
    params = "".join(f"param p{i} = {i}\n" for i in range(100))
    (tmp_path / "many.hex").write_text(params)
    assert "the first 50 messages of 100 are shown" in hexc("check", tmp_path / "many.hex").err
    (tmp_path / "many.hex").write_text(params + "gpu g { memory = 1 }\n")
    assert "error[E1" in hexc("check", tmp_path / "many.hex").err
