"""Finding engines and launchers, ours and others'."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError, UsageError
from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Slurm, Target
from hexdsl.targets import registry
from hexdsl.targets.base import Reason
from hexdsl.targets.engines.torch.place import served


class Other:
    """An engine of another package."""

    def supports(self, plan: Plan, target: Target) -> tuple[Reason, ...]:
        return ()

    def lower(self, plan: Plan, target: Target, folder: Path) -> Launch:
        return Launch(name=plan.name, engine=target.name, launcher="local", processes=())


OTHER = Other()


def install(monkeypatch: pytest.MonkeyPatch, name: str, place: str, group: str = "hexdsl.engines") -> None:
    entry = EntryPoint(name, place, group)
    object.__setattr__(entry, "dist", SimpleNamespace(name="acme-hexc"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])


def complaint(error: pytest.ExceptionInfo[UsageError]) -> Diagnostic:
    (diagnostic,) = error.value.diagnostics
    return diagnostic


@pytest.mark.parametrize(("name", "help_"), [("torhc", "did you mean `torch`?"), ("sglang", "one of `torch`, `vllm`")])
def test_an_unknown_engine_is_answered_with_those_there_are(name: str, help_: str) -> None:
    with pytest.raises(UsageError) as error:
        registry.engine(name)
    assert (complaint(error).code, complaint(error).help) == ("P011", help_)
    assert name in complaint(error).message


def test_an_unknown_launcher_of_a_target(uneven: Plan) -> None:
    with pytest.raises(UsageError) as error:
        registry.lower(uneven, Target(name="torch", launcher=Slurm()), Path("/specs"))
    assert complaint(error).message == "there is no launcher `slurm` in this version"


def test_another_package_may_bring_an_engine(monkeypatch: pytest.MonkeyPatch, uneven: Plan) -> None:
    install(monkeypatch, "other", f"{__name__}:OTHER")
    launch = registry.lower(uneven, Target(name="other"), Path("/specs"))
    assert launch.engine == "other"
    assert [file.path for file in launch.files] == ["launch.sh"]
    assert {"kind": "engine", "name": "other", "about": "from package acme-hexc"} in registry.describe()


def test_two_packages_with_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "local", f"{__name__}:OTHER", "hexdsl.launchers")
    with pytest.raises(UsageError, match="launcher named `local`: hexdsl and acme-hexc"):
        registry.launcher("local")


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "other", "acme_that_is_not_there:engine")
    with pytest.raises(UsageError, match="`other` of package acme-hexc cannot be loaded"):
        registry.engine("other")


def test_all_reasons_are_told_at_once(gpus: Plan) -> None:
    serve = gpus.workflow.with_(model=served(gpus).with_(path=None, family="GPT2LMHeadModel"))
    with pytest.raises(NoPlanError) as error:
        registry.lower(gpus.with_(workflow=serve), Target(name="torch"), Path("/specs"))
    assert [d.code for d in error.value.diagnostics] == ["P012", "P012"]


def test_what_there_is_has_a_line_each() -> None:
    found = [(row["kind"], row["name"]) for row in registry.describe()]
    assert found == [("engine", "torch"), ("engine", "vllm"), ("launcher", "local")]
    assert all(row["about"] for row in registry.describe())
