"""`hexc profile`: measures this machine, or takes a table of measured operators, and writes a GPU's profile."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hexdsl.commands.base import Output, as_json, save_file
from hexdsl.costs.tables import SIZES, Measured, profile_of, read_table, write_table
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.spec.profile import Profile
from hexdsl.lang.source import read_bytes

SECONDS = {False: 20, True: 5}
"""How long is measured, by `--quick`; starting the processes comes on top."""

MAX_TABLE = 200_000_000


@dataclass
class Found:
    """What a measurement gave: the device, its operators, and what could not be measured."""

    device: dict[str, Any] = field(default_factory=dict)
    rows: list[Measured] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def profile_command(args: argparse.Namespace) -> Output:
    """Writes a profile, and prints a `gpu` block that uses it."""
    found = _imported(args) if args.table else _measured(args)
    made = profile_of(found.rows, found.device["gpu"], found.device["source"], found.device.get("memory_bytes"))
    text = as_json(made.model_dump(mode="json", exclude_defaults=True)) + "\n"
    if args.save_table:
        save_file(Path(args.save_table), write_table(found.rows))
    notes = [f"not measured: {why}" for why in found.skipped]
    if args.json and not args.out:
        return Output(data=text, talk="\n".join(notes))
    out = args.out or f"{slug(made.gpu)}.profile.json"
    save_file(Path(out), text)
    return Output(
        data=text if args.json else gpu_block(made, out, None if args.table else _host_memory()),
        talk="\n".join([*notes, f"wrote {out}"]),
    )


def _imported(args: argparse.Namespace) -> Found:
    if not args.gpu:
        raise UsageError([Diagnostic("E004", "`--from` needs `--gpu NAME`", (), "name the GPU of the table")])
    rows = read_table(read_bytes(Path(args.table), args.table, MAX_TABLE), args.table)
    return Found({"gpu": args.gpu, "source": f"table {Path(args.table).name}"}, list(rows))


def _measured(args: argparse.Namespace) -> Found:
    """Starts `hexdsl.runtime.profile`, which may import PyTorch, as a process of its own."""
    if find_spec("torch") is None:
        help_ = "install it: pip install 'hexdsl[run]'; or import a table with `--from`"
        raise UsageError([Diagnostic("E143", "measuring needs PyTorch, which is not installed", (), help_)])
    command = [sys.executable, "-m", "hexdsl.runtime.profile", "--seconds", str(SECONDS[args.quick])]
    command += ["--device", args.device] if args.device else []
    with tempfile.TemporaryFile() as complaints:
        found, code = _listen(command, complaints.fileno(), args.show)
        complaints.seek(0)
        last = complaints.read()[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    if code != 0 or not found.rows:
        reason = "; ".join(found.skipped) or last or f"it ended with exit code {code}"
        raise UsageError([Diagnostic("E143", f"this machine could not be measured: {reason}", (), _fix(args))])
    return found


def _fix(args: argparse.Namespace) -> str:
    return "leave out `--device cuda`" if args.device == "cuda" else "`python -m hexdsl.runtime.profile` says more"


def _listen(command: list[str], complaints: int, show: Callable[[str], None]) -> tuple[Found, int]:
    """Collects the process's lines until it ends; where we are interrupted, it ends too."""
    found = Found()
    ours, theirs = os.pipe()
    with open(ours, encoding="utf-8", errors="replace") as lines:
        process = subprocess.Popen(command, stdout=theirs, stderr=complaints)
        os.close(theirs)
        try:
            for line in lines:
                _take(found, line, show)
        except BaseException:
            process.terminate()
            raise
        return found, process.wait()


def _take(found: Found, line: str, show: Callable[[str], None]) -> None:
    try:
        said = json.loads(line)
    except ValueError:
        return  # a library printed something of its own
    if not isinstance(said, dict):
        return
    if "gpu" in said:
        found.device = said
    elif "about" in said:
        show(f"measuring {said['about']}")
    elif "skipped" in said:
        found.skipped.append(said["skipped"])
    elif "operator" in said:
        sizes = tuple(said["sizes"][name] for name in SIZES[said["operator"]])
        found.rows.append(Measured(said["operator"], said["dtype"], sizes, said["seconds"]))


def slug(name: str) -> str:
    """A file name for a GPU: `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"


def gpu_block(profile: Profile, out: str, host_memory: float | None) -> str:
    """A `gpu` block with the measured peaks, to be pasted into a spec; a device without memory has the host's."""
    name = re.sub(r"\W", "_", slug(profile.gpu))
    name = name if name[0].isalpha() else f"gpu_{name}"
    memory = profile.memory_bytes or host_memory
    lines = [f"memory    = {memory / 1e9:.4g}GB"] if memory else ["memory    = 8GB  # not known: write yours"]
    if profile.read_rates:
        lines.append(f"bandwidth = {max(profile.read_rates) / 1e9:.4g}GB/s  # measured")
    for dtype, curve in profile.gemm.items():
        lines.append(f"{dtype:<9} = {max(curve.flop_per_s) / 1e12:.4g}TFLOP/s  # measured")
    if profile.p2p:
        lines.append(f"link      = {2 * profile.p2p.bytes_per_s / 1e9:.3g}GB/s  # measured, both directions together")
    lines.append(f"profile   = {json.dumps(os.path.basename(out), ensure_ascii=False)}")
    return "\n".join([f"gpu {name} {{", *(f"  {line}" for line in lines), "}"])


def _host_memory() -> float | None:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
