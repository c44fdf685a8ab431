"""The reference of the language says what is true: defaults and examples that it shows can be written."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import SpecError
from hexdsl.lang.schema import DOCUMENTED, schema_markdown

NEEDED = {
    "gpu": "gpu x { memory = 80GB, bandwidth = 2TB/s ? }",
    "cluster": "cluster x { nodes n { gpus = g } ? }",
    "model": "model x { layers = 2, hidden = 64, heads = 4, ffn = 64, vocab = 100 ? }",
    "workload": "workload x { ? }",
    "serve": "serve x { model = m, on = c ? }",
    "cascade": "cascade x { on = c, tier t { model = m } ? }",
    "agentic": "agentic x { on = c, stage s { model = m } ? }",
    "rl": "rl x { on = c, policy = m ? }",
    "pretrain": "pretrain x { on = c, model = m, context = 2048tok, batch = 4Mtok ? }",
    "target": "serve x { model = m, on = c, target torch { ? } }",
}
BASIS = """
gpu g { memory = 80GB, bandwidth = 2TB/s }
cluster c { nodes n { gpus = g } }
model m { layers = 2, hidden = 64, heads = 4, ffn = 64, vocab = 100 }
"""
FILES = ("profile", "trace", "used", "peers", "data")
"""Fields whose example names a file, which would have to be there."""


def rows(kind: str) -> Iterator[tuple[str, str, str]]:
    """Field, value and default of a kind's own table."""
    own = schema_markdown(kind).partition("\n### ")[0].partition("\nRules and objectives")[0]
    for line in own.splitlines():
        if line.startswith("| `"):
            field, value, default = (cell.strip() for cell in line.replace("\\|", "\0").split("|")[1:4])
            yield field.strip("`"), value, default


SHOWN = [
    *((k, f, d.strip("`")) for k in DOCUMENTED for f, _, d in rows(k) if d.startswith("`")),
    *(
        (k, f, e)
        for k in DOCUMENTED
        for f, v, _ in rows(k)
        if v[:2] != "`{"
        for e in re.findall(r"(?:such as|or) `([^`]+)`", v)
    ),
    *((k, f, e) for k in DOCUMENTED for f, v, _ in rows(k) for e in re.findall(r"`(\w+\([^`]*\))`", v)),
]


@pytest.mark.parametrize(("kind", "field", "shown"), SHOWN)
def test_what_the_reference_shows_can_be_written(kind: str, field: str, shown: str) -> None:
    if field in FILES or "..." in shown:
        pytest.skip("the example stands for a name")
    if shown == "8 * H100":
        shown = "8 * g"
    written, there = re.subn(rf"\b{field} = [^,?}}]+", f"{field} = {shown}", NEEDED[kind])
    written = written.replace("?", "" if there else f"\n{field} = {shown}\n")
    try:
        load_text(BASIS + written)
    except SpecError as error:
        pytest.fail(f"{written}: {error}")


def test_every_cell_says_something() -> None:
    for kind in DOCUMENTED:
        for line in schema_markdown(kind).splitlines():
            if line.startswith("| `"):
                assert all(cell.strip() for cell in line.replace("\\|", "\0").split("|")[1:-1]), line


def test_nothing_vague_and_nothing_internal() -> None:
    text = schema_markdown()
    assert "| a value |" not in text
    assert not re.search(r"`NAME`|`arithmetic`|as below|`recorded\(|empirical\(", text)
    assert "| `workload` | a `workload` | none |" in schema_markdown("serve")
    assert '| `peers` | a file, such as `file("NAME")` | none |' in schema_markdown("cluster")
    assert "| `explore` | a share, such as `60%` | `50%` |" in schema_markdown("serve")
    assert "| `exploit` | `first_done`, or a share, such as `60%` | `first_done` |" in schema_markdown("serve")
    assert "| `when` | a condition | none |" in schema_markdown("cascade")
