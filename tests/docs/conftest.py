"""A folder with the example specs, and the commands in it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks

from hexdsl.cli import main


@dataclass(frozen=True)
class Said:
    """What a command said on its two streams, and its exit code."""

    data: str
    talk: str
    code: int


Hexc = Callable[[str], Said]
Save = Callable[[Block], None]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of specs/."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hexc(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Hexc:
    """Runs `hexc ...` in this process."""

    def run(command: str) -> Said:
        program, *words = shlex.split(command)
        assert program == "hexc"
        capsys.readouterr()
        code = main(words)
        streams = capsys.readouterr()
        return Said(streams.out, streams.err, code)

    return run


@pytest.fixture
def save_files(workplace: Path) -> Save:
    """Writes the files that a block's document shows with `save=PATH`."""

    def save(block: Block) -> None:
        for other in blocks(block.path):
            if "save" in other.options:
                (workplace / other.options["save"]).write_text(other.text)

    return save
