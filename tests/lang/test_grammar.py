"""The grammar itself and the cache of its parser."""

from __future__ import annotations

from pathlib import Path

import lark
import pytest

from hexdsl.grammar import load


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no parser in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load.parser.cache_clear()
    monkeypatch.setattr(load, "parser", load.parser.__wrapped__)
    return load.cache_path()


def parses(text: str) -> bool:
    try:
        load.parser().parse(text + "\n")
    except lark.UnexpectedInput:
        return False
    return True


def test_no_conflict_and_no_collision() -> None:
    load.build(strict=True)


def test_parser_is_written_once_and_read_back(cache: Path) -> None:
    load.parser()
    written = cache.read_bytes()
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
    assert load.parser().parse("a = 1\n") == load.build().parse("a = 1\n")
    assert cache.read_bytes() == written


@pytest.mark.parametrize("damage", [b"", b"torn", b"\x80\x04N."])
def test_damaged_cache_is_replaced(cache: Path, damage: bytes) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(damage)
    assert load.parser().parse("a = 1\n")
    with cache.open("rb") as file:
        assert lark.Lark.load(file).parse("a = 1\n")


def test_unusable_cache_folder_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load.parser.__wrapped__().parse("a = 1\n")


def test_missing_home_folder_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert load.parser.__wrapped__().parse("a = 1\n")


def test_failed_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(load.os, "replace", full)
    assert load.parser().parse("a = 1\n")
    assert list(cache.parent.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n# only a comment",
        "a = 1\r\nb = 2\r\n",
        "a { b = 1, c = 2, }",
        "a { b = 1,\n c = 2\n\n}",
        "a = f(1, b = 2,)",
        "a = [\n  1,\n  2,\n]",
        "a = f(\n  1\n)",
        "a ->\n b",
        "a = 1 +\n 2",
        'a = { b = 1, "c d" = 2 }',
        "a in 1..4",
        "a = 1..2 * 3",
        "not a in [1] and b == 2 or c",
        "big <-> small.part { latency = 20us }",
        "a.b -> c.d -> e { when = failed }",
        "in = 3\nas = 4\nor = 5",
        "inference = 1\norder = 2\nandroid = 3\nnotes = 4\nimported = 5\nletter = 6",
        'import "a.hex" as b',
        "param a\nparam b: Rate\nparam c = 1\nparam d: Rate = 12req/s",
        'class "any words" two "three": base.one {}',
        "maximize tokens_per_second(train)\nminimize -x",
        "a = 8 * 400Gb/s - $2.90/gpu/h * 3 + 95%",
        "checkpoint = 30min",
        "a = $1.5M/h",
        "a = x[0].b(1)[c]",
    ],
)
def test_accepted(text: str) -> None:
    assert parses(text)


@pytest.mark.parametrize(
    "text",
    ["a =\n1", "a = 1, b = 2", "a < b < c", "a <-> b <-> c", "let maximize = 1 2", "a b", "a: b", "1..2..3"],
)
def test_refused(text: str) -> None:
    assert not parses(text)
