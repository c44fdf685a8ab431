"""`hexc replan`: another plan for a deployment that runs, when machines or load change."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hexdsl.commands.base import Output
from hexdsl.ir.diagnostic import Diagnostic, NoPlanError, UsageError
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.quantity import BANDWIDTH, RATE, SECONDS, Unit
from hexdsl.ir.replan import Anew, Replan
from hexdsl.ir.spec.cluster import Nodes
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.values import suggestion
from hexdsl.lang.units import UnitError, quantity


def replan_command(args: argparse.Namespace) -> Output:
    """Re-plans a plan or a bundle without moving any weights, and writes the change."""
    from hexdsl.passes.serve.replan import most_served, replan
    from hexdsl.passes.serve.simulate import simulate
    from hexdsl.passes.serve.started import new_replicas
    from hexdsl.report.replan import replan_text

    before = _plan(Path(args.plan))
    now, gone = _changed(before, args)
    made = replan(before, now, gone, new_replicas(before, now))
    args.show("phases and routes are found")
    made = made.with_(bound_req_per_s=most_served(now))
    talk = []
    if args.full:
        try:
            made = made.with_(anew=_anew(made, now, args))
        except NoPlanError as error:
            talk += [f"there is no plan from nothing: {_told(d)}" for d in error.diagnostics]
    made = made.with_(plan=simulate(made.plan))
    if args.out:
        _write(made, args)
        talk.append(f"{args.out}: apply it with: bash {args.out}/apply.sh")
    return Output(data=_json(made) if args.json else replan_text(made, args.width), talk="\n".join(talk))


def _told(diagnostic: Diagnostic) -> str:
    return f"{diagnostic.message} ({diagnostic.help})" if diagnostic.help else diagnostic.message


def _json(made: Replan) -> str:
    return json.dumps(made.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _plan(path: Path) -> Plan:
    from hexdsl.commands.saved import read_bundled, read_plan

    plan = read_bundled(path) if path.is_dir() else read_plan(path)
    if not isinstance(plan.workflow, Serve):
        raise _wrong("P015", f"`{path}` is no plan of a `serve` workflow", "plan the spec again")
    if plan.chains is not None or plan.workflow.on.peers is not None:
        raise _wrong(
            "P015",
            f"`{path}` serves over chains of peers",
            "its router takes in peers by itself; there is nothing to plan",
        )
    return _as_it_runs(plan, plan.workflow, path) if path.is_dir() else plan


def _as_it_runs(plan: Plan, serve: Serve, bundle: Path) -> Plan:
    """The plan with what its bundle was made for: the engine, and the weights by their whole path.

    A path in a spec starts at the spec's folder, which the bundle does not name.
    """
    from hexdsl.emit import target_of

    engine, weights = _word(bundle / "launch.json", "engine"), _word(bundle / "config/replica-0.json", "model", "path")
    if engine:
        serve = serve.with_(target=(target_of(plan, engine),))
    if weights:
        serve = serve.with_(model=serve.model.with_(path=weights))
    return plan.with_(workflow=serve)


def _word(path: Path, *keys: str) -> str | None:
    """A text in a bundle's JSON file; None where it has none."""
    data = _data(path) if path.is_file() else None
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, str) else None


def _data(path: Path) -> Any:
    """What a bundle's JSON file holds.  Raises UsageError (P015) where it is none."""
    from hexdsl.lang.source import read_bytes
    from hexdsl.lang.written import NoJson, parse_json

    try:
        return parse_json(read_bytes(path, str(path), MOST_BYTES).decode())
    except UnicodeDecodeError:
        raise _damaged(path, "it is not UTF-8 text") from None
    except NoJson as error:
        raise _damaged(path, str(error)) from None


MOST_BYTES = 200_000_000


def _damaged(path: Path, why: str) -> UsageError:
    return _wrong("P015", f"`{path}` is damaged: {why}", "take it from the bundle that runs, or compile the spec again")


def _changed(before: Plan, args: argparse.Namespace) -> tuple[Plan, frozenset[str]]:
    """The plan with today's machines and load, without replicas, and the replicas that are lost for themselves."""
    from hexdsl.passes.inventory import machines_left

    if not (args.lost or args.rate or args.added):
        raise _wrong("E004", "nothing has changed", "say what: `--lost HOST`, `--rate 2x`, `--added GROUP=N`")
    lost, gone = _lost(args.lost, before)
    serve = _grown(_at_rate(before.workflow, args.rate), args.added)  # type: ignore[arg-type]
    now = before.with_(
        workflow=serve, lost=tuple(sorted({*before.lost, *lost})), machines=(), replicas=(), routes=(), handovers=(),
        predictions=(), certificates=(), decisions=(), rules=(), verified=(), simulation=None,
    )  # fmt: skip
    machines = machines_left(now)
    if not machines:
        raise _wrong("P015", "every machine is lost", "add machines, or plan another spec")
    return now.with_(machines=machines), gone


def _lost(names: Sequence[str], plan: Plan) -> tuple[frozenset[str], frozenset[str]]:
    """The machines and the replicas that are meant: replicas by name, machines by name or by host."""
    replicas, hosts = {r.name for r in plan.replicas}, {m.host for m in plan.machines}
    machines = {m.id for m in plan.machines}
    unknown = next((n for n in names if n not in replicas | hosts | machines), None)
    if unknown is not None:
        message = f"the plan has no machine, host or replica `{unknown[:60]}`"
        raise UsageError([Diagnostic("E020", message, (), suggestion(unknown, sorted(machines | hosts | replicas)))])
    lost = {m.id for m in plan.machines if m.id in names or (m.host in names and m.id not in names)}
    return frozenset(lost), frozenset(n for n in names if n in replicas)


def _at_rate(serve: Serve, text: str | None) -> Serve:
    """The workflow at another load: `2x` of what arrives, or `30req/s`."""
    if text is None:
        return serve
    work = serve.workload
    if work is None or work.arrivals is None:
        message = "`--rate` has nothing to change: the load has no arrivals"
        raise _wrong("E113", message, "write `arrivals = poisson(12req/s)` in the workload and plan again")
    factor = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    rate = work.arrivals.rate * float(factor[1]) if factor else _quantity(text, "--rate", RATE, "30req/s")
    if not 0 < rate < math.inf:
        message = f"`--rate {text[:40]}` leaves no load that can be planned for"
        raise _wrong("E113", message, "write `--rate 2x` or `--rate 30req/s`")
    return serve.with_(workload=work.with_(arrivals=work.arrivals.with_(rate=rate)))


def _grown(serve: Serve, added: Sequence[str]) -> Serve:
    """The workflow with more machines in some groups: `GROUP=2`, or `GROUP=HOST,HOST` where hosts are named."""
    nodes = {n.name: n for n in serve.on.nodes}
    for text in added:
        name, there, what = text.partition("=")
        if not (name and there and what):
            raise _wrong("E004", f"`--added {text[:60]}` is not GROUP=NUMBER", "write `--added big=2`")
        if name not in nodes:
            message = f"cluster `{serve.on.name}` has no `nodes {name[:60]}`"
            raise UsageError([Diagnostic("E020", message, (), suggestion(name, sorted(nodes)))])
        nodes[name] = _more(nodes[name], what)
    return serve.with_(on=serve.on.with_(nodes=tuple(nodes.values())))


def _more(group: Nodes, what: str) -> Nodes:
    if group.hosts:
        hosts = (*group.hosts, *what.split(","))
        if what.isdecimal() or len(set(hosts)) != len(hosts):
            message = f"the machines of `{group.name}` have hosts"
            raise _wrong("E004", message, f"name those that come, once each: `--added {group.name}=HOST,HOST`")
        return group.with_(count=len(hosts), hosts=hosts)
    if not what.isdecimal() or not 0 < int(what) <= 10_000:
        raise _wrong(
            "E113", f"`--added {group.name}={what[:40]}` is no number of machines", f"write `--added {group.name}=2`"
        )
    return group.with_(count=group.count + int(what))


def _anew(made: Replan, now: Plan, args: argparse.Namespace) -> Anew:
    """A plan from nothing on today's machines, and whether it pays (the test of HexGen-3's scheduler)."""
    from hexdsl.pipeline import plan_from

    disk = _quantity(args.disk, "--disk", BANDWIDTH, "2GB/s")
    window = _quantity(args.window, "--window", SECONDS, "300s")
    full = plan_from(now.with_(machines=(), precision=(), margins=(), context=0), lambda step, *_: args.show(step.name))
    held = {_weights(r) for r in made.plan.replicas}
    loads = Counter[str]()
    for replica in (r for r in full.replicas if _weights(r) not in held):
        for stage in replica.stages:
            loads[stage.machine] += stage.memory.weights_bytes * stage.tp
    reload, old = max(loads.values(), default=0) / disk, made.served_after_req_per_s
    return Anew(
        served_req_per_s=full.served_req_per_s,
        cost_usd_per_h=full.cost_usd_per_h,
        kept=sum(_weights(r) in held for r in full.replicas),
        loads_bytes=sum(loads.values()),
        reload_s=reload,
        disk_bytes_per_s=disk,
        window_s=window,
        pays=(full.served_req_per_s - old) * (window - reload) > old * reload,
    )


def _weights(replica: Replica) -> tuple[object, ...]:
    """Which weights lie where."""
    return tuple((s.devices, s.layers) for s in replica.stages)


def _write(made: Replan, args: argparse.Namespace) -> None:
    """The change as a folder.  Raises UsageError or NoPlanError."""
    from hexdsl.emit import target_of
    from hexdsl.targets.change import change_bundle
    from hexdsl.targets.render import is_change, write_all
    from hexdsl.targets.service import ROUTER

    bundle = Path(args.plan)
    router = _router(bundle / ROUTER, {m.replica for m in made.replicas if m.fate in ("goes on", "changes")})
    files = change_bundle(made, router, target_of(made.plan, None), bundle.absolute())
    write_all(files, Path(args.out), args.force, is_change)


def _router(config: Path, runs: Collection[str]) -> dict[str, Any]:
    """The config of the router that runs, which knows these replicas.  Raises UsageError (P015)."""
    if not config.is_file():
        message = f"`{config.parent.parent}` is no bundle with a router, so that addresses are not known"
        raise _wrong("P015", message, "name the folder of the bundle that runs")
    router = _data(config)
    listed = router.get("replicas") if isinstance(router, dict) else None
    if not isinstance(listed, list) or not all(map(_is_address, listed)):
        raise _damaged(config, "it does not list replicas with their addresses")
    missing = sorted(set(runs) - {r["name"] for r in listed})
    if missing:
        message = f"`{config}` does not know `{missing[0]}`, which the plan has"
        raise _wrong("P015", message, "name the folder of the change that was applied last")
    return router  # type: ignore[no-any-return]


def _is_address(listed: object) -> bool:
    if not isinstance(listed, dict) or not isinstance(listed.get("name"), str):
        return False
    return re.fullmatch(r"https?://\S+:\d{1,5}", str(listed.get("url"))) is not None


def _quantity(text: str, option: str, unit: Unit, example: str) -> float:
    try:
        found = quantity(text)
    except UnitError as error:
        raise _wrong("E112", f"`{option}`: {error.message}", f"write `{option} {example}`") from error
    if found.dim not in unit.dims or not found.value > 0:
        raise _wrong("E110", f"`{option} {text[:40]}` is not {unit.words}", f"write `{option} {example}`")
    return found.value


def _wrong(code: str, message: str, help_: str) -> UsageError:
    return UsageError([Diagnostic(code, message, (), help_)])
