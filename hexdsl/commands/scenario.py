"""What `hexc simulate` plays: a plan's own trace or another one, faster or slower, with failures."""

from __future__ import annotations

import argparse
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan
from hexdsl.ir.quantity import SECONDS
from hexdsl.ir.spec.common import FileRef
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import SLOWEST, Empirical, Recorded, Workload
from hexdsl.ir.trace import TraceError
from hexdsl.ir.values import suggestion
from hexdsl.lang.units import UnitError, quantity
from hexdsl.passes.pool.chains import repair_times
from hexdsl.report.figures import count
from hexdsl.sim.from_plan import Leaver, Scenario
from hexdsl.sim.spec import Failure
from hexdsl.sim.trace import Trace, read_trace


@dataclass(frozen=True)
class Played:
    """A plan whose load is the one that is played, and what is played through it."""

    plan: Plan
    scenario: Scenario

    def said(self, requests: int, runs: int) -> str:
        """What is played, where it is not drawn from the load as planned."""
        return "; ".join(_said(self, requests, runs))


def played(args: argparse.Namespace, plan: Plan) -> Played:
    """What the options ask for.  Raises UsageError."""
    serve = plan.workflow
    assert isinstance(serve, Serve)
    if args.columns and not args.trace:
        help_ = "name the file too: `--trace FILE`"
        raise UsageError([Diagnostic("E004", "`--columns` is about the trace of `--trace`", (), help_)])
    factor = _factor(args.rate) if args.rate else 1.0
    work = serve.workload or Workload(name="default")
    work, trace = _other(args, work) if args.trace else (work, _own(work, _folders(args)))
    work, trace = _faster(work, trace, factor)
    failures = tuple(_failure(text, plan) for text in args.fail)
    leavers = tuple(_leavers(plan))
    if work == (serve.workload or work):
        return Played(plan, Scenario(trace, failures, leavers=leavers))
    other = plan.with_(workflow=serve.with_(workload=work))
    return Played(other, Scenario(trace, failures, as_planned=False, leavers=leavers))


def _said(played: Played, requests: int, runs: int) -> Iterator[str]:
    serve, trace = played.plan.workflow, played.scenario.trace
    assert isinstance(serve, Serve)
    if trace is not None:
        whole = len(trace.requests)
        part = f"{count(runs, 'window')} of {requests:,} of its {whole:,} requests" if requests < whole else "all of it"
        yield f"the trace `{trace.name}`, {part}"
    arrivals = serve.workload.arrivals if serve.workload else None
    taken = sum(r.rate_req_per_s for r in played.plan.replicas)
    if played.scenario.as_planned and trace is not None and arrivals and taken < 0.999 * arrivals.rate:
        yield f"an even {taken / arrivals.rate:.0%} of these requests, which is what the plan takes on"
    if not played.scenario.as_planned:
        rate = f", {arrivals.rate:.4g}req/s on average" if arrivals else ""
        yield f"another load than the plan was made for{rate}"
    if leavers := played.scenario.leavers:
        away = sum(leaver.away_s for leaver in leavers) / len(leavers)
        churn = 3600 * leavers[0].leaves_per_s
        yield f"each peer leaves at random, {churn:.3g} times an hour, and is away for {away:.3g} s on average"
    for failure in played.scenario.failures:
        back = f"and is back {failure.down_s:g} s later" if failure.down_s < math.inf else "and stays away"
        yield f"{failure.name} fails at {failure.at_s:g} s {back}"


# Traces.


def _folders(args: argparse.Namespace) -> tuple[Path, ...]:
    """Where the trace of a plan may lie: beside what was given, and here."""
    given = Path(args.subject)
    path = given.resolve() if given.is_symlink() else given
    return (path if path.is_dir() else path.parent, Path())


def _own(work: Workload, folders: tuple[Path, ...]) -> Trace | None:
    """The trace of a load, as its file holds it today.  Raises UsageError where that is not the file of the plan."""
    if work.trace is None:
        return None
    found = [folder / work.trace.path for folder in folders if (folder / work.trace.path).is_file()]
    if not found:
        looked = " or ".join(dict.fromkeys(f"`{folder}`" for folder in folders))
        help_ = f"name the file: `--trace {Path(work.trace.path).name}`"
        raise UsageError([Diagnostic("E001", f"the plan's trace `{work.trace.path}` is not in {looked}", (), help_)])
    path = next((p for p in found if _digest(p) == work.trace.sha256), None)
    if path is None:
        help_ = f"plan again, or play it as another load: `--trace {found[0]}`"
        raise UsageError([Diagnostic("E144", f"`{found[0]}` is not the trace that was planned for", (), help_)])
    return _read(path, work.columns or None, timed=isinstance(work.arrivals, Recorded)).scaled(1 / work.speed)


def _other(args: argparse.Namespace, work: Workload) -> tuple[Workload, Trace]:
    """Another trace, and the load that it makes; arrivals are the plan's where the file has none."""
    path = Path(args.trace)
    if work.trace is not None and not args.columns and path.is_file() and _digest(path) == work.trace.sha256:
        own = _own(work.with_(trace=FileRef(path=path.name, sha256=work.trace.sha256)), (path.parent,))
        assert own is not None
        return work, own
    columns = _columns(args.columns)
    trace = _read(path, columns, timed=False)
    arrivals = Recorded.of([r.arrival_s for r in trace.requests]) if trace.timed else work.arrivals
    changes = {
        "trace": FileRef(path=args.trace, sha256=_digest(path)),
        "columns": dict(columns or {}),
        "speed": 1.0,
        "prompt": Empirical.of([r.prompt for r in trace.requests]),
        "output": Empirical.of([r.output for r in trace.requests]),
        "arrivals": arrivals,
    }
    return work.with_(**changes), trace


def _read(path: Path, columns: Mapping[str, str] | None, timed: bool) -> Trace:
    if not path.exists():
        raise UsageError([Diagnostic("E001", f"there is no file `{path}`")])
    try:
        return read_trace(path, columns, timed=timed)
    except TraceError as error:
        raise UsageError([Diagnostic("E144", error.said, (), error.help)]) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns(text: str | None) -> dict[str, str] | None:
    """The map of `--columns arrival=t,prompt=in,output=out`."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    wrong = next((what for what, is_there, name in pairs if not (is_there and what.strip() and name.strip())), None)
    if wrong is not None:
        help_ = "write `--columns arrival=t,prompt=in,output=out`"
        raise UsageError([Diagnostic("E004", f"`{wrong}` in `--columns` is not WHAT=NAME", (), help_)])
    return {what.strip(): name.strip() for what, _, name in pairs}


# The rate.


def _factor(text: str) -> float:
    """2 for `2x`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    factor = float(match[1]) if match else 0.0
    if not SLOWEST <= factor <= 1 / SLOWEST:
        help_ = "write `--rate 2x` for twice the load"
        raise UsageError([Diagnostic("E113", f"`--rate {text[:40]}` is no factor from 0.001x to 1000x", (), help_)])
    return factor


def _faster(work: Workload, trace: Trace | None, factor: float) -> tuple[Workload, Trace | None]:
    if factor == 1.0:
        return work, trace
    if work.arrivals is None:
        message = (
            "`--rate` has nothing to scale: the load has no arrivals, and as many requests as fit run all the time"
        )
        raise UsageError([Diagnostic("E113", message, (), "write `arrivals = poisson(12req/s)` in the workload")])
    arrivals = work.arrivals.with_(rate=work.arrivals.rate * factor)
    return work.with_(arrivals=arrivals), trace.scaled(1 / factor) if trace else None


# Failures.


def _leavers(plan: Plan) -> Iterator[Leaver]:
    """The peers in use, where the cluster has churn."""
    churn = plan.workflow.on.churn
    if churn and plan.availability is not None:
        for name, away_s in sorted(repair_times(plan).items()):
            yield Leaver(name, churn, away_s)


def _failure(text: str, plan: Plan) -> Failure:
    """The failure of `NAME@TIME` or `NAME@TIME+DOWN`."""
    name, is_there, times = text.partition("@")
    at, _, down = times.partition("+")
    if not (is_there and name and at):
        help_ = "write `--fail r0@30s`, or `--fail r0@30s+10s` for one that comes back after 10 s"
        raise UsageError([Diagnostic("E004", f"`--fail {text[:60]}` is not NAME@TIME or NAME@TIME+DOWN", (), help_)])
    known = {r.name for r in plan.replicas} | {s.machine for r in plan.replicas for s in r.stages}
    if name not in known:
        message = f"no replica and no machine that serves one is called `{name[:60]}`"
        raise UsageError([Diagnostic("E020", message, (), suggestion(name, known))])
    return Failure(_seconds(at), name, _seconds(down) if down else math.inf)


def _seconds(text: str) -> float:
    try:
        found = quantity(text)
    except UnitError as error:
        raise UsageError([Diagnostic("E112", error.message, (), error.help)]) from None
    if found.dim not in SECONDS.dims:
        raise UsageError([Diagnostic("E110", f"`{text[:40]}` is not a time", (), "write the unit, such as `30s`")])
    return found.value


def check_in_time(played: Played, requests: int, runs: int) -> None:
    """Raises UsageError where a failure comes after the last arrival of every run."""
    serve, trace = played.plan.workflow, played.scenario.trace
    assert isinstance(serve, Serve)
    arrivals = serve.workload.arrivals if serve.workload else None
    if arrivals is None:
        return
    last = requests / arrivals.rate
    if trace is not None and isinstance(arrivals, Recorded):
        last = max(trace.window(requests, run, runs)[-1].arrival_s for run in range(runs))
    for failure in played.scenario.failures:
        if failure.at_s > last:
            message = f"{failure.name} fails at {failure.at_s:g} s, but the last request comes at about {last:.3g} s"
            raise UsageError([Diagnostic("E113", message, (), "choose an earlier time, or more `--requests`")])
