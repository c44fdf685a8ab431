"""`hexc run DIR`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch_harness import free_ports

from hexdsl.bundle import run_bundle
from hexdsl.ir.diagnostic import UsageError
from hexdsl.ir.launch import Launch, Process, Ready
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.launchers.local.files import files
from hexdsl.targets.render import render

STAND_IN = str(Path(__file__).parent / "stand_in.py")
RUN = "import sys; from pathlib import Path; from hexdsl.bundle import run_bundle; run_bundle(Path(sys.argv[1]))"


@pytest.fixture
def bundle(uneven: Plan, tmp_path: Path) -> Path:
    """A bundle with one process that stands in for a worker."""
    (port,) = free_ports(1)
    ready = Ready(url=f"http://127.0.0.1:{port}/health", timeout_s=20)
    argv = ("python", STAND_IN, str(port))
    one = Process(name="one", role="worker", host="here", argv=argv, ready=ready)
    launch = Launch(name="t", engine="e", launcher="local", endpoint="http://e", processes=(one,))
    render(uneven, launch.with_(files=files(launch, Target(name="torch"))), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_it_runs_until_it_is_stopped(bundle: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, "bundle"], cwd=bundle.parent, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for line in run.stderr:
        if line == "ready: http://e\n":
            run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130


def test_only_a_bundle_is_run(bundle: Path, tmp_path: Path) -> None:
    (bundle / "launch.sh").unlink()
    for folder in (bundle, tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="is not a bundle") as error:
            run_bundle(folder)
        assert error.value.diagnostics[0].code == "P013"
