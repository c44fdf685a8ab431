"""The command `hexc`.  This is the only module that prints: commands return what is to be said."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from hexdsl.commands.base import Output, failed
from hexdsl.version import __version__

PLANNING = ("plan", "compile", "explain", "diff", "graph", "report")
"""Commands that take a spec and so its parameters; all but `compile` also take a plan or a bundle."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are diagnostics, so that `--json` covers them too."""

    def error(self, message: str) -> NoReturn:
        from hexdsl.ir.diagnostic import Diagnostic, UsageError

        raise UsageError([Diagnostic("E004", message, (), " ".join(self.format_usage().split()))])


def parser(command: str = "") -> Parser:
    """The command line; with the name of a command, only what that one needs, for making them all takes a while."""
    top = Parser(
        prog="hexc", description="Compile .hex specs into plans and launchable bundles.", allow_abbrev=False
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"hexc {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    about_specs = (_check, _plan, _compile, _run, _explain, _diff, _graph, _report)
    every = (*about_specs, _simulate, _replan, _estimate, _calibrate, _profile, _fmt, _schema, _reference)
    named = tuple(add for add in every if add.__name__ == f"_{command}")
    for add in named or every:
        add(commands)
    return top


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def _command(commands: Commands, name: str, help: str) -> Parser:
    about = help[0].upper() + help[1:] + "."
    made: Parser = commands.add_parser(name, help=help, description=about, allow_abbrev=False)
    made.add_argument("--json", action="store_true", help="print JSON on stdout")
    return made


def _spec_options(command: Parser) -> None:
    command.add_argument(
        "-D", dest="defines", action="append", default=[], metavar="NAME=VALUE", help="set a parameter"
    )
    command.add_argument("--params", action="append", default=[], metavar="FILE", help="file of `name = value` lines")
    command.add_argument(
        "--allow-path",
        action="append",
        default=[],
        metavar="DIR",
        help="folder outside the spec's that imports may use",
    )
    command.add_argument("--workflow", metavar="NAME", help="the workflow that is meant, where there are several")
    command.add_argument(
        "--from-json", action="store_true", help="the spec is machine-made JSON (see `hexc schema --json`)"
    )


def _pass_options(command: Parser) -> None:
    command.add_argument("--time-passes", action="store_true", help="print the seconds that each pass took")
    command.add_argument("--print-after", metavar="PASS", help="print, as JSON, the plan as it is after a pass")


def _check(commands: Commands) -> None:
    command = _command(commands, "check", "check a spec without planning it")
    command.add_argument("spec")
    _spec_options(command)


def _plan(commands: Commands) -> None:
    command = _command(commands, "plan", "plan a spec and print who does what, why, and what it comes to")
    command.add_argument("spec")
    command.add_argument("--save", metavar="FILE", help="write plan.json to a file")
    about = "instead of one plan, those of which none is better in cost, throughput and latency"
    command.add_argument("--pareto", action="store_true", help=about)
    command.add_argument("--points", type=int, metavar="N", help="plans that `--pareto` looks for (default 10)")
    command.add_argument("--html", metavar="FILE", help="write the page of the `--pareto` plans")
    _spec_options(command)
    _pass_options(command)


def _compile(commands: Commands) -> None:
    command = _command(commands, "compile", "plan a spec and write a bundle that can be launched")
    command.add_argument("spec")
    command.add_argument("-o", "--out", required=True, metavar="DIR", help="folder for the bundle")
    command.add_argument("--target", metavar="ENGINE", help="engine, where the spec names several or none")
    command.add_argument("--force", action="store_true", help="replace an earlier bundle in DIR")
    _spec_options(command)
    _pass_options(command)


def _run(commands: Commands) -> None:
    command = _command(commands, "run", "launch a bundle and keep it running until it is stopped")
    command.add_argument("bundle", metavar="DIR")


def _replan(commands: Commands) -> None:
    command = _command(commands, "replan", "plan anew for a deployment that runs, without moving any weights")
    command.add_argument("plan", metavar="PLAN|DIR", help="plan.json, or the folder of the bundle that runs")
    about = "a machine, host or replica that is gone; may be repeated"
    command.add_argument("--lost", action="append", default=[], metavar="NAME", help=about)
    command.add_argument("--rate", metavar="2x|30req/s", help="the load from now on")
    about = "more machines of a `nodes` block, by number, or by host where it names hosts; may be repeated"
    command.add_argument("--added", action="append", default=[], metavar="GROUP=N", help=about)
    command.add_argument("--full", action="store_true", help="also plan from nothing, and say whether that pays")
    command.add_argument("--window", default="300s", metavar="TIME", help="time over which it must pay (default 300s)")
    command.add_argument("--disk", default="1GB/s", metavar="RATE", help="how quickly a machine loads (default 1GB/s)")
    command.add_argument("-o", "--out", metavar="DIR", help="write the change of the running bundle to a folder")
    command.add_argument("--force", action="store_true", help="replace an earlier change in DIR")


def _explain(commands: Commands) -> None:
    command = _command(commands, "explain", "explain a decision of a plan, or a message's code")
    command.add_argument("subject", metavar="SPEC|PLAN|DIR|CODE")
    about = "a metric, a replica, a GPU, a rule; bottleneck, worth, phases, second, idle"
    command.add_argument("what", nargs="?", help=about)
    _spec_options(command)


def _diff(commands: Commands) -> None:
    command = _command(commands, "diff", "compare two plans; exit code 1 where they differ")
    command.add_argument("old", metavar="OLD")
    command.add_argument("new", metavar="NEW")
    _spec_options(command)


def _graph(commands: Commands) -> None:
    command = _command(commands, "graph", "print the cluster and the plan as a graph (Graphviz DOT)")
    command.add_argument("subject", metavar="SPEC|PLAN|DIR")
    command.add_argument("--text", action="store_true", help="a tree for the terminal instead of DOT")
    _spec_options(command)


def _report(commands: Commands) -> None:
    command = _command(commands, "report", "write a page about a plan (one self-contained HTML file)")
    command.add_argument("subject", metavar="SPEC|PLAN|DIR")
    command.add_argument("-o", "--out", metavar="FILE", help="file to write; left out: stdout")
    command.add_argument("--explain", action="store_true", help="also compare the plan with others (searches again)")
    _spec_options(command)


def _simulate(commands: Commands) -> None:
    command = _command(commands, "simulate", "play the load through a plan; exit code 3 where a rule is broken")
    command.add_argument("subject", metavar="SPEC|PLAN|DIR")
    command.add_argument("--requests", type=int, metavar="N", help="requests in one run; left out: by the load")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="runs (default 3)")
    command.add_argument("--trace", metavar="FILE", help="play a recorded trace instead of the load of the plan")
    command.add_argument("--columns", metavar="WHAT=NAME,...", help="which column of `--trace` holds what")
    command.add_argument("--rate", metavar="FACTOR", help="scale the load, such as `2x`")
    command.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="NAME@TIME[+DOWN]",
        help="a replica or machine fails, such as `r0@30s+10s` for 10 s",
    )
    command.add_argument("--html", metavar="FILE", help="write the page of the simulated plan, as `report` does")
    command.add_argument("--save", metavar="FILE", help="write plan.json with the simulation")
    _spec_options(command)


def _estimate(commands: Commands) -> None:
    estimate = _command(commands, "estimate", "predict latency, throughput and memory of one operating point or many")
    estimate.add_argument("spec", nargs="?", help="spec whose models and GPUs may be named; left out: the catalog's")
    _point_options(estimate)
    estimate.add_argument("--from", dest="rows", metavar="FILE.csv", help="a point a row")
    _training_options(estimate)


def _calibrate(commands: Commands) -> None:
    calibrate = _command(commands, "calibrate", "fit the cost model to measured serving runs and write a profile")
    calibrate.add_argument("rows", metavar="RUN.csv", help="a measured point a row, with `tpot_ms` and `ttft_ms`")
    calibrate.add_argument("--spec", help="spec whose models and GPUs may be named; left out: the catalog's")
    _point_options(calibrate)
    calibrate.add_argument("-o", "--out", metavar="FILE", help="profile to write; left out: none is written")


def _profile(commands: Commands) -> None:
    profile = _command(commands, "profile", "measure this machine and write its profile")
    profile.add_argument("-o", "--out", metavar="FILE", help="profile to write; left out: a name made from the GPU's")
    profile.add_argument("--device", choices=("cpu", "cuda"), help="left out: a GPU where there is one")
    profile.add_argument("--quick", action="store_true", help="about 5 seconds of measuring instead of 20")
    profile.add_argument("--save-table", metavar="FILE.csv", help="write the measured operators as a table too")
    profile.add_argument("--from", dest="table", metavar="TABLE", help="take a table of operators (CSV, parquet)")
    profile.add_argument("--gpu", metavar="NAME", help="the GPU of the table")


def _training_options(command: Parser) -> None:
    command.add_argument("--train", action="store_true", help="a training step instead of serving")
    for name in ("dp", "cp", "ep"):
        command.add_argument(f"--{name}", type=int, metavar="N", help=f"training: degree of {name}")
    command.add_argument("--seq", type=int, metavar="TOKENS", help="training: tokens of a sequence (default 4096)")
    command.add_argument("--micro-batch", type=int, metavar="N", help="training: sequences of a micro-batch")
    command.add_argument("--accumulation", type=int, metavar="N", help="training: micro-batches of a step")
    command.add_argument("--interleave", type=int, metavar="N", help="training: virtual stages of a rank")
    command.add_argument("--zero", type=int, metavar="STAGE", help="training: ZeRO stage, 0 to 3")
    command.add_argument("--recompute", metavar="WHAT", help="training: none, selective, ops or full")
    command.add_argument("--attention", metavar="KERNEL", help="training: unfused, flash1, flash2 or flash3")
    command.add_argument("--node-gpus", type=int, metavar="N", help="training: GPUs of a machine (default 8)")
    command.add_argument("--nic", metavar="BANDWIDTH", help="training: network of a GPU, both directions together")


def _point_options(command: Parser) -> None:
    command.add_argument("--model", metavar="NAME", help="a model of the spec or the catalog, or a config.json")
    command.add_argument("--gpu", metavar="NAME", help="a GPU of the spec or the catalog")
    command.add_argument("--profile", metavar="FILE", help="measured profile of the GPU")
    command.add_argument("--precision", metavar="FORMAT", help="format of the weights; left out: the model's")
    command.add_argument("--kv", metavar="FORMAT", help="format of the KV cache; left out: 16 bits")
    command.add_argument("--tp", type=int, metavar="N", help="tensor-parallel degree")
    command.add_argument("--pp", type=int, metavar="N", help="pipeline stages")
    command.add_argument("--batch", type=float, metavar="N", help="running requests (default 1)")
    command.add_argument("--isl", type=float, metavar="TOKENS", help="tokens of a prompt (default 1000)")
    command.add_argument("--osl", type=float, metavar="TOKENS", help="tokens of an answer (default 200)")
    command.add_argument("--link", metavar="BANDWIDTH", help="link between the GPUs, both directions together")
    command.add_argument("--utilization", type=float, default=0.9, help="share of the memory that the engine fills")
    _spec_options(command)


def _fmt(commands: Commands) -> None:
    command = _command(commands, "fmt", "format specs in place (`-` reads stdin and prints)")
    command.add_argument("files", nargs="+", metavar="FILE")
    command.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a file would change")
    command.add_argument("--diff", action="store_true", help="change nothing; print the changes")


def _schema(commands: Commands) -> None:
    command = _command(commands, "schema", "print every kind of block with its fields, units and defaults")
    command.add_argument("kind", nargs="?", help="one kind, such as `serve`")


def _reference(commands: Commands) -> None:
    completion = _command(commands, "completion", "print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    _command(commands, "targets", "list the engines and launchers")
    _command(commands, "passes", "list the passes of each workflow, in order")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.  A traceback never reaches the user."""
    gc.set_threshold(100_000)  # a command is short: collecting while its modules load takes a tenth of its time
    _open_streams()
    try:
        return _say(_dispatch(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence()  # the reader of our output went away (`| head`): nothing is left to say
        return 0
    except Exception as error:
        if os.environ.get("HEXC_DEBUG"):
            import traceback

            traceback.print_exc()
        print(f"hexc: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("This is a bug in hexc.  Run again with HEXC_DEBUG=1 and report what it prints.", file=sys.stderr)
        return 70


def _open_streams() -> None:
    """Makes streams that are closed go nowhere; stdout carries data, so it is UTF-8 in every locale."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the solver and child processes count on 0 to 2 being open
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _silence() -> None:
    """Lets what is still buffered for stdout go nowhere, or Python would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(argv: Sequence[str]) -> Output:
    from hexdsl.commands import table
    from hexdsl.ir.diagnostic import SpecError

    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    args = argparse.Namespace(json="--json" in argv, color=terminal and not os.environ.get("NO_COLOR"))
    args.show = Progress(terminal and not args.json)
    args.width = _width()
    try:
        parser(argv[0] if argv else "").parse_args(argv, args)
        return table()[args.command](args)
    except SpecError as error:
        return failed(error, args)
    finally:
        args.show("")


class Progress:
    """The line of progress on a terminal: each text replaces the last, an empty one clears the line."""

    def __init__(self, visible: bool) -> None:
        self._visible = visible
        self._shown = ""

    def __call__(self, text: str) -> None:
        if self._visible and text != self._shown:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
            self._shown = text


def _width() -> int | None:
    """Columns of the terminal that stdout is, or None where it is a file or a pipe."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _say(output: Output) -> int:
    if output.talk:
        print(output.talk, file=sys.stderr)
    if not output.data:
        return output.code
    try:
        sys.stdout.write(output.data if output.data.endswith("\n") else output.data + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        print(f"hexc: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return output.code


def run() -> NoReturn:
    """The program `hexc`: leaves without taking the interpreter apart, which takes longer than many a check."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some reads every package's metadata
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
