"""The bundle that brings a running deployment to a new plan: new replicas start, routes and phases change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.launch import File, Launch
from hexdsl.ir.replan import Replan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.engines.torch.change import change_file
from hexdsl.targets.registry import engine, launcher
from hexdsl.targets.render import record
from hexdsl.targets.service import ROUTER

STARTS = "launch.sh"

APPLY = """#!/usr/bin/env bash
# Brings the running deployment to the plan in plan.json: nothing that runs is started again.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
exec "${HEXC_PYTHON:-python3}" -m hexdsl.runtime.apply change.json
"""


def change_bundle(made: Replan, router: Mapping[str, object], target: Target, folder: Path) -> tuple[File, ...]:
    """All files of a change.  `router` is the config of the running router, `folder` that of the spec.

    Raises NoPlanError (P012) where the engine cannot change so while it runs.
    """
    _refuse(made, target)
    listed = router["replicas"]
    assert isinstance(listed, list)
    urls = {str(r["name"]): str(r["url"]) for r in listed}
    launch = _launch(made, target, folder, _next_port(urls, target))
    urls |= _addresses(made, launch) if launch else {}
    change = change_file(made.plan, target, urls)
    routing = json.loads(change.text)["routing"]
    known = json.dumps({**router, **routing}, indent=2) + "\n"
    return (
        File(path="plan.json", text=record(made.plan)),
        change,
        File(path=ROUTER, text=known),
        File(path="apply.sh", text=APPLY, executable=True),
        File(path="README.md", text="\n".join(_readme(made, launch)) + "\n"),
        *(_starting(launch, target) if launch else ()),
    )


def _refuse(made: Replan, target: Target) -> None:
    fates = {m.fate for m in made.replicas}
    if target.name != "torch" and fates & {"changes", "starts"}:
        message = f"engine `{target.name}` cannot change phases or take in new replicas while it runs"
        raise NoPlanError([Diagnostic("P012", message, (), "compile the new spec and start its bundle instead")])


def _next_port(urls: Mapping[str, str], target: Target) -> int:
    """A port above all that the running deployment has."""
    used = [urlsplit(url).port or 0 for url in urls.values()]
    return max([target.ports, *used]) + len(used) + 1


def _launch(made: Replan, target: Target, folder: Path, port: int) -> Launch | None:
    """The processes of the replicas that start, without a router."""
    starts = {m.replica for m in made.replicas if m.fate == "starts"}
    if not starts:
        return None
    alone = tuple(r for r in made.plan.replicas if r.name in starts)
    part = made.plan.with_(replicas=alone, handovers=(), routes=())
    launch = engine(target.name).lower(part, target.with_(ports=port), folder)
    processes = tuple(p for p in launch.processes if p.role != "router")
    files = tuple(f for f in launch.files if f.path != ROUTER)
    ready = ", ".join(p.ready.url.removesuffix("/health") for p in processes if p.ready is not None)
    return launch.with_(processes=processes, files=files, endpoint=ready)


def _addresses(made: Replan, launch: Launch) -> dict[str, str]:
    """The addresses of the replicas that start, in the plan's order."""
    starts = [
        r.name for r in made.plan.replicas if any(m.replica == r.name and m.fate == "starts" for m in made.replicas)
    ]
    ready = [p.ready.url.removesuffix("/health") for p in launch.processes if p.ready is not None]
    return dict(zip(starts, ready, strict=True))


def _starting(launch: Launch, target: Target) -> tuple[File, ...]:
    files = launcher(target.launcher.kind).files(launch, target)
    return (File(path="launch.json", text=record(launch.with_(files=()))), *launch.files, *files)


def _readme(made: Replan, launch: Launch | None) -> Iterator[str]:
    yield f"# A change of `{made.plan.name}`"
    yield ""
    yield "Replicas that go on are not started again; requests that are under way are finished."
    yield ""
    for moved in made.replicas:
        yield f"- {moved.replica} {_fate(moved.fate, moved.role_before, moved.role_after)}"
    yield ""
    step = 1
    if launch is not None:
        yield f"{step}. On the new machines, with this folder there: `bash {STARTS}`. It starts the new replicas and"
        yield "   watches them."
        step += 1
    yield f"{step}. On the router's machine, with the deployment's `HEXC_API_KEY` if it has one: `bash apply.sh`. It"
    yield "   waits for new replicas, changes the router's routes, and ends with 0 when every replica is in its phase."
    yield ""
    yield "From now on this folder is the deployment: `hexc replan` takes it in place of the bundle's."
    yield ""
    yield "Replicas that are lost or idle get no more requests; their processes may be stopped after that."


def _fate(fate: str, before: str | None, after: str | None) -> str:
    if fate == "changes":
        return f"changes from {before} to {after}"
    return {"starts": f"starts ({after})", "lost": "is lost", "idle": "gets no more requests"}.get(fate, fate)
