"""Files that a spec names: what may be read, and what must not hang or leave the tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hexdsl.api import load
from hexdsl.ir.diagnostic import SpecError

MODEL = "layers = 4, hidden = 64, heads = 4, ffn = 128, vocab = 1000"


def codes(path: Path, **more: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, **more)  # type: ignore[arg-type]
    return [d.code for d in caught.value.diagnostics]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of a spec beside one that it must not read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "lib.hex").write_text(f"model m {{ {MODEL} }}\n")
    (tmp_path / "spec").mkdir()
    return tmp_path / "spec"


def spec(tree: Path, text: str) -> Path:
    path = tree / "a.hex"
    path.write_text(text)
    return path


def test_a_link_does_not_lead_out_of_the_tree(tree: Path) -> None:
    (tree / "link.hex").symlink_to("../outside/lib.hex")
    (tree / "dir").symlink_to("../outside")
    assert codes(spec(tree, 'import "link.hex"\nimport "dir/lib.hex"\n')) == ["E011", "E011"]


def test_an_allowed_folder_may_be_read(tree: Path) -> None:
    path = spec(tree, 'import "../outside/lib.hex"\nmodel n : m { layers = 8 }\n')
    assert codes(path) == ["E011"]
    assert load(path, allow=[tree.parent / "outside"]).spec.models[0].layers == 8


def test_a_loop_of_links_is_an_error(tree: Path) -> None:
    (tree / "loop.hex").symlink_to("loop.hex")
    assert codes(spec(tree, 'import "loop.hex"\n')) == ["E003"]


def test_a_pipe_is_not_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    assert codes(spec(tree, 'import "pipe"\n')) == ["E003"]
    assert codes(spec(tree, 'model m { config = "pipe" }\nworkload w { trace = "pipe" }\n')) == ["E003", "E003"]


def test_a_file_without_permission_is_an_error(tree: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (tree / "b.hex").write_text("let x = 1\n")
    (tree / "b.hex").chmod(0)
    assert codes(spec(tree, 'import "b.hex"\n')) == ["E003"]


def test_a_config_is_not_read_without_end(tree: Path) -> None:
    (tree / "config.json").write_text("[" + "1," * 6_000_000)
    assert codes(spec(tree, 'model m { config = "config.json" }\n')) == ["E003"]


def test_a_chain_of_imports_ends(tree: Path) -> None:
    for i in range(100):
        (tree / f"{i}.hex").write_text(f'import "{i + 1}.hex"\n')
    assert codes(spec(tree, 'import "0.hex"\n')) == ["E010"]


@pytest.mark.parametrize("line", ["let a{0} = a{1} + 1", "param a{0} = a{1}", "model a{0} : a{1} {{ }}"])
def test_a_chain_of_names_ends(tree: Path, line: str) -> None:
    text = "\n".join(line.format(i, i + 1) for i in range(3000))
    assert codes(spec(tree, f"{text}\nlet a3000 = 1\n"))[0] == "E024"


def test_paths_are_relative_to_the_file_that_names_them(tree: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4}
    (tree / "lib").mkdir()
    (tree / "lib" / "config.json").write_text(
        str(config | {"intermediate_size": 128, "vocab_size": 9}).replace("'", '"')
    )
    (tree / "lib" / "b.hex").write_text('model base { config = "config.json" }\n')
    text = 'import "lib/b.hex"\nmodel first : base { layers = 2 }\nmodel second : base { }\n'
    first, second = load(spec(tree, text)).spec.models
    assert (first.layers, second.layers, second.config) == (2, 4, "lib/config.json")
