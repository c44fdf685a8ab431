"""Every fenced block of the documents is run, compiled or compared, by its language."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import doc_json
import pytest
from doc_blocks import DOCUMENTS, LANGUAGES, OPTIONS, ROOT, Block, blocks, every
from doc_console import agrees, parts, renewed

from hexdsl.api import load_json, load_text
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.spec.rule import Rule
from hexdsl.lang.format import format_text
from hexdsl.lang.source import Source

if TYPE_CHECKING:
    from conftest import Hexc, Save

SKELETON = """import "std/gpus.hex"
import "std/models.hex"
cluster lab {{ nodes a {{ gpus = 8 * H100 }} }}
serve demo {{
  model = qwen32b
  on = lab
{text}}}
"""

HEX = [*every("hex"), *every("hex", "error", "file", "inside")]


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_block_says_its_language_and_only_options_that_there_are(path: Path) -> None:
    found = list(blocks(path))
    assert path.read_text().count("```") == 2 * len(found)
    assert [str(b) for b in found if b.language not in LANGUAGES or set(b.options) - set(OPTIONS)] == []


@pytest.mark.parametrize("block", HEX, ids=str)
def test_hex(block: Block) -> None:
    text = SKELETON.format(text=block.text) if "inside" in block.options else block.text
    if "error" in block.options:
        with pytest.raises(SpecError) as error:
            load_text(text)
        assert [d.code for d in error.value.diagnostics] == [block.options["error"]]
        return
    assert load_text(text).diagnostics == ()
    if "inside" not in block.options:
        assert format_text(Source(str(block), text)) == text


@pytest.mark.parametrize("block", every("hex", "file"), ids=str)
def test_a_spec_that_is_shown_is_the_one_in_its_file(block: Block, update: bool) -> None:
    real = (ROOT / block.options["file"]).read_text()
    if update and block.text != real:
        block.replace(real)
        return
    assert block.text == real


@pytest.mark.parametrize("block", [*every("console"), *every("console", "exit")], ids=str)
def test_console(block: Block, hexc: Hexc, save_files: Save, update: bool) -> None:
    save_files(block)
    lines = list[str]()
    for command, shown in parts(block.text):
        lines += [f"$ {command}", *shown]
        if command.startswith("scripts/"):
            run_by_hand(command)
            continue
        said = hexc(command)
        assert said.code == int(block.options.get("exit", 0)), said.talk
        if update and not agrees(shown, said.data + said.talk):
            lines[-len(shown) :] = renewed(shown, said.data + said.talk)
            continue
        assert agrees(shown, said.data + said.talk), f"`{command}` now says:\n{said.data}{said.talk}"
    if update and "\n".join(lines) + "\n" != block.text:
        block.replace("\n".join(lines) + "\n")


@pytest.mark.parametrize("block", every("bash"), ids=str)
def test_bash(block: Block) -> None:
    for line in block.text.splitlines():
        for command in line.split(" && "):
            run_by_hand(command)


def run_by_hand(command: str) -> None:
    """Looks at a command that takes too long, or changes too much, for a test: do the things that it names exist?"""
    program, *words = shlex.split(command)
    if program.startswith("scripts/"):
        assert os.access(ROOT / program, os.X_OK)
    else:
        assert program.removeprefix(".venv/bin/") in ("pip", "pytest", "ruff")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"\.\[([a-z,]+)\]|setup ([a-z,]+)", " ".join([program, *words]))
    assert named is None or set((named[1] or named[2]).split(",")) <= set(extras)
    for word in words:
        assert "/" not in word or (ROOT / word).exists(), f"{word} does not exist"


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if "```python\n" in p.read_text()], ids=lambda p: p.name)
@pytest.mark.usefixtures("workplace")
def test_python(path: Path) -> None:
    names: dict[str, object] = {"__name__": "documented"}
    for block in blocks(path):
        if block.language == "python" and not block.options:
            padded = "\n" * block.line + block.text  # so that an error names the document's line
            exec(compile(padded, str(path), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("block", [*every("python", "file"), *every("toml", "file")], ids=str)
def test_a_part_of_a_file_is_still_in_it(block: Block) -> None:
    assert block.text in (ROOT / block.options["file"]).read_text()
    if block.language == "python":
        ast.parse(block.text)


@pytest.mark.parametrize("block", every("json", "spec"), ids=str)
def test_a_machine_made_spec_is_one(block: Block) -> None:
    assert load_json(block.text).spec.workflows


@pytest.mark.parametrize("block", every("json", "rule"), ids=str)
def test_a_machine_made_rule_is_one(block: Block) -> None:
    rule = Rule.model_validate_json(block.text)
    (shown,) = load_text(SKELETON.format(text=f"{rule.text}\n")).spec.workflows[0].rules
    assert rule.expr.model_dump(exclude={"right": {"text"}}) == shown.expr.model_dump(exclude={"right": {"text"}})


@pytest.mark.parametrize("block", every("json", "of"), ids=str)
def test_a_sample_has_the_form_of_the_real_output(block: Block, hexc: Hexc, save_files: Save, update: bool) -> None:
    save_files(block)
    said = hexc(block.options["of"])
    assert said.code == int(block.options.get("exit", 0)), said.talk
    sample, real = json.loads(block.text), json.loads(said.data)
    if update:
        text = doc_json.pretty(doc_json.renewed(sample, real)) + "\n"
        if text != block.text:
            block.replace(text)
        return
    assert doc_json.misfits(sample, real) == []


def test_no_block_is_left_out() -> None:
    read = [*HEX, *every("console"), *every("console", "exit"), *every("bash"), *every("json", "of", "rule", "spec")]
    read += [*every("python"), *every("python", "file"), *every("toml", "file"), *every("text")]
    assert {str(b) for path in DOCUMENTS for b in blocks(path)} == {str(b) for b in read}
