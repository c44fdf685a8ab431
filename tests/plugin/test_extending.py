"""The steps of CONTRIBUTING.md that add to hexc itself: a pass, a block kind, a kernel."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field

from hexdsl.api import load_text
from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Decision, Plan
from hexdsl.ir.quantity import Cost, Share
from hexdsl.ir.spec import KINDS
from hexdsl.lang.schema import DOCUMENTED, schema_markdown
from hexdsl.passes.base import Pass, run_passes
from hexdsl.pipeline import SERVE, start

SPEC = """
gpu card { memory = 24GB, bandwidth = 900GB/s, bf16 = 70TFLOP/s }
cluster desk { nodes here { gpus = 2 * card } }
model small { layers = 4, hidden = 256, heads = 4, ffn = 1024, vocab = 32_000 }
serve demo { model = small, on = desk }
"""


def spares(plan: Plan) -> Plan:
    """Notes which GPUs stay free for a replica that must be replaced.  Needs `replicas`, gives `spares`."""
    used = {d for replica in plan.replicas for d in replica.devices}
    free = [d.id for machine in plan.machines for d in machine.devices if d.id not in used]
    reason = "no replica uses them" if free else "every GPU is in use"
    noted = Decision(by="spares", what="spare GPUs", choice=", ".join(free) or "none", reason=reason)
    return plan.with_(decisions=(*plan.decisions, noted))


STEP = Pass(spares, needs=("replicas",), gives=("spares",))


def planned(passes: tuple[Pass, ...]) -> Plan:
    spec = load_text(SPEC).spec
    return run_passes(passes, start(spec, spec.workflows[0]), lambda *_: None)


def test_a_pass_is_one_function_and_one_line_of_the_tuple() -> None:
    plan = planned((*SERVE[:-1], STEP, SERVE[-1]))
    used = {d for replica in plan.replicas for d in replica.devices}
    (noted,) = (d for d in plan.decisions if d.by == "spares")
    assert set(noted.choice.split(", ")) == {"here-0:0", "here-0:1"} - used or noted.choice == "none"
    assert plan.verified


def test_a_pass_that_comes_too_early_fails_at_once() -> None:
    with pytest.raises(ValueError, match=r"pass `spares` needs \['replicas'\]"):
        planned((STEP, *SERVE))


class Budget(Ir):
    """What may be spent."""

    KIND: ClassVar[str] = "budget"

    name: str
    most: Cost = Field(description="money per time")
    alarm: Share = Field(0.8, description="share of it that causes a message", json_schema_extra={"example": "80%"})


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that a new kind needs in `hexdsl/ir/spec/spec.py`; the reference has made its list from it already."""
    for table in (KINDS, DOCUMENTED):
        monkeypatch.setitem(table, "budget", Budget)


@pytest.mark.usefixtures("budget")
def test_a_block_kind_is_one_class_and_one_line() -> None:
    load_text("budget team { most = $40/h, alarm = 90% }")
    assert "| `most` | a cost per time, such as `$40/h` | required | money per time |" in schema_markdown("budget")


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("budget team { most = 40 }", "E110"),
        ("budget team { mots = $40/h }", "E101"),
        ("budget team { alarm = 90% }", "E102"),
        ("budget { most = $40/h }", "E105"),
    ],
)
def test_its_fields_are_checked_like_any_other(text: str, code: str) -> None:
    with pytest.raises(SpecError) as error:
        load_text(text)
    assert code in {d.code for d in error.value.diagnostics}


def test_without_its_line_the_kind_is_unknown() -> None:
    with pytest.raises(SpecError) as error:
        load_text("budget team { most = $40/h }")
    assert [d.code for d in error.value.diagnostics] == ["E022"]


def test_a_kernel_is_linked_by_its_name() -> None:
    nn = pytest.importorskip("torch", reason="needs the extra `run`").nn
    from hexdsl.runtime.config import RuntimeFault
    from hexdsl.runtime.link import link

    def halve(model: nn.Module) -> None:
        for weight in model.parameters():
            weight.data *= 0.5

    model = nn.Linear(2, 2)
    before = model.weight.clone()
    assert link(model, ["halve"], {"halve": halve}) is model
    assert (model.weight == before / 2).all()
    with pytest.raises(RuntimeFault, match="unknown kernel `hlave`"):
        link(model, ["hlave"], {"halve": halve})
