"""Reading files: what is accepted, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from hexdsl.ir.diagnostic import SpecError, UsageError
from hexdsl.lang.source import MAX_BYTES, Source, read_source, text_of


def code(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_source(path, "a.hex")
    (diagnostic,) = caught.value.diagnostics
    assert "a.hex" in diagnostic.message
    return diagnostic.code


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\rc = 3\n")
    assert read_source(path, "a.hex") == Source("a.hex", "a = 1\nb = 2\nc = 3\n")


def test_unusable_places_are_usage_errors(tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "none.hex", "E001"), (tmp_path, "E002"), (tmp_path / ("x" * 300), "E003")):
        with pytest.raises(UsageError) as caught:
            read_source(path, "a.hex")
        assert [d.code for d in caught.value.diagnostics] == [expected]


def test_a_path_with_nul_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        read_source(Path("a\0.hex"), "a.hex")


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"a\0b", "S091"), (b"caf\xe9", "S091"), (b"#" * (MAX_BYTES + 1), "S090"), (b"\xff\xfea\0", "S091")],
)
def test_unfit_contents(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "a.hex"
    path.write_bytes(data)
    assert code(path) == expected


def test_largest_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"
    path.write_bytes(b"#" * MAX_BYTES)
    assert len(read_source(path, "a.hex").text) == MAX_BYTES


def test_span_and_text() -> None:
    source = Source("a.hex", "a = 1\nb = 22\n")
    assert text_of(source, source.span(2, 5, 2)) == "22"
    assert source.lines == ("a = 1", "b = 22", "")
