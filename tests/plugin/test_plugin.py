"""Engines and launchers of another package: found by their entry points, and used like ours."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from hexdsl.cli import main

SPEC = """
gpu card { memory = 24GB, bandwidth = 900GB/s, bf16 = 70TFLOP/s }
cluster desk { nodes here { gpus = 2 * card, hosts = ["desk-1"] } }
model small { layers = 4, hidden = 256, heads = 4, ffn = 1024, vocab = 32_000 }
serve demo {
  model = small
  on    = desk
  replicas = 2
  target echo { launcher = LAUNCHER, ports = PORTS }
}
"""


def bundle(folder: Path, launcher: str, ports: int = 18100) -> int:
    spec = folder / "demo.hex"
    spec.write_text(SPEC.replace("LAUNCHER", launcher).replace("PORTS", str(ports)))
    return main(["compile", str(spec), "-o", str(folder / "out")])


@pytest.mark.usefixtures("plugin")
def test_they_are_listed_with_who_brings_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert ["engine", "echo", "from package hexc-example"] in lines
    assert ["launcher", "slurm", "from package hexc-example"] in lines


@pytest.mark.usefixtures("plugin")
def test_a_bundle_of_both(tmp_path: Path) -> None:
    assert bundle(tmp_path, "slurm") == 0
    script = tmp_path / "out" / "launch.sh"
    subprocess.run(["bash", "-n", script], check=True)
    steps = [line for line in script.read_text().splitlines() if line.startswith("srun ")]
    assert [step.split("hexc_example.server ")[1] for step in steps] == ["127.0.0.1 18100 &", "127.0.0.1 18101 &"]
    assert all("--nodelist=desk-1 " in step for step in steps)


@pytest.mark.usefixtures("plugin")
def test_what_it_does_not_support_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle(tmp_path, 'slurm(partition = "gpu")') == 3
    told = capsys.readouterr().err
    assert "error[P012]: launcher `slurm` cannot run this plan: it takes no options" in told
    assert not (tmp_path / "out").exists()


def test_without_the_package_the_engine_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle(tmp_path, "local") == 2
    assert "error[P011]: there is no engine `echo`" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin")
def test_our_launcher_starts_their_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = free_ports()
    assert bundle(tmp_path, "local", ports) == 0
    monkeypatch.setenv("HEXC_PYTHON", sys.executable)
    running = subprocess.Popen(["bash", str(tmp_path / "out" / "launch.sh")], stderr=subprocess.DEVNULL)
    try:
        assert answer(ports, b"hello", running) == b"hello"
        assert answer(ports + 1, b"again", running) == b"again"
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def free_ports() -> int:
    """The first of two free ports."""
    for port in range(23100, 23300, 2):
        with socket.socket() as one, socket.socket() as two:
            if one.connect_ex(("127.0.0.1", port)) and two.connect_ex(("127.0.0.1", port + 1)):
                return port
    raise AssertionError("no free ports")


def answer(port: int, words: bytes, running: subprocess.Popen[bytes]) -> bytes:
    """What the server on a port says to these words, once it is up."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            with opener.open(f"http://127.0.0.1:{port}/", data=words, timeout=10) as said:
                body: bytes = said.read()
                return body
        except OSError:
            assert running.poll() is None, "the bundle ended"
            time.sleep(0.1)
    raise AssertionError(f"nothing answers on port {port}")
