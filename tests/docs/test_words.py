"""What the documents name exists: files, modules, commands, codes; and the tables agree with the code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from doc_blocks import DOCUMENTS, ROOT

from hexdsl.cli import parser
from hexdsl.ir.spec import WORKFLOW_KINDS
from hexdsl.lang.codes import MEANING_CODES, PLAN_CODES, WARNING_CODES
from hexdsl.lang.schema import schema_markdown

BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->"
FOLDERS = ("bench", "docs", "grammar", "hexdsl", "kernels", "passes", "scripts", "specs", "targets", "tests")


def prose(path: Path) -> str:
    """A document without its fenced blocks and without the generated reference."""
    text = re.sub(f"{BEGIN}.*?{END}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_words(path: Path) -> Iterator[str]:
    return (found for found in re.findall(r"`([^`\n]+)`", prose(path)))


def subcommands() -> dict[str, argparse.ArgumentParser]:
    actions = parser()._actions
    return dict(next(a for a in actions if isinstance(a, argparse._SubParsersAction)).choices)


def exists(word: str) -> bool:
    """Whether a module, or a name in one, is there."""
    module, *names = word.split(".")
    thing = import_module(module)
    for i, name in enumerate(names):
        if not hasattr(thing, name):
            try:
                import_module(".".join([module, *names[: i + 1]]))
            except ImportError:
                return False
        thing = getattr(thing, name)
    return True


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", prose(path))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_paths_that_are_named_exist(path: Path) -> None:
    words = [word.split()[0] for word in code_words(path)]
    inside = [w for w in words if re.fullmatch(r"[\w./-]+", w) and w.split("/")[0] in FOLDERS and "/" in w]
    files = [w for w in words if re.fullmatch(r"\w+\.py", w)]
    assert [w for w in inside if not (ROOT / w).exists()] == []
    assert [w for w in files if not any(any((ROOT / f).rglob(w)) for f in FOLDERS)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_names_of_code_exist(path: Path) -> None:
    words = {w for w in code_words(path) if re.fullmatch(r"hexdsl(\.\w+)+", w)}
    groups = {"hexdsl.engines", "hexdsl.launchers"}
    assert sorted(w for w in words - groups if not exists(w)) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    known = subcommands()
    calls = [re.findall(r"[^\s|\[\]]+", w) for w in code_words(path) if re.fullmatch(r"hexc [a-z]+.*", w)]
    assert [c for c in calls if c[1] not in known] == []
    options = [(c[1], o) for c in calls for o in c[2:] if o.startswith("-")]
    assert [(c, o) for c, o in options if o not in known[c]._option_string_actions] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_codes_exist(path: Path) -> None:
    known = {*MEANING_CODES, *PLAN_CODES, *WARNING_CODES}
    assert sorted(set(re.findall(r"\b[EPW]\d{3}\b", prose(path))) - known) == []


def test_the_table_of_commands_is_that_of_the_parser() -> None:
    rows = re.findall(r"^\| `hexc (\w+)[^|]*\| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(subcommands())


def test_the_table_of_workflows_names_every_kind() -> None:
    rows = re.findall(
        r"^\| `(\w+)`[^|]*\|[^|]+\| (yes|no) \| (yes|no) \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert {kind for kind, _, _ in rows} == set(WORKFLOW_KINDS)
    assert {checked for _, checked, _ in rows} == {"yes"}


def test_the_reference_is_that_of_the_schemas(request: pytest.FixtureRequest) -> None:
    path = ROOT / "docs" / "language.md"
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    shown, end, tail = rest.partition(END)
    assert begin
    assert end
    made = f"\n{schema_markdown().strip()}\n\n"
    if request.config.getoption("--update"):
        path.write_text(head + begin + made + end + tail, encoding="utf-8")
        return
    assert shown == made, "run: pytest tests/docs --update"
