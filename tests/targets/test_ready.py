"""Asking a server whether it is ready."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from launch_harness import free_ports

from hexdsl.runtime.ready import main, wait


class Slow(BaseHTTPRequestHandler):
    """503 twice, then 200."""

    asked = 0

    def do_GET(self) -> None:
        Slow.asked += 1
        self.send_response(200 if Slow.asked > 2 and self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Slow.asked = 0
    with HTTPServer(("127.0.0.1", 0), Slow) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_it_asks_until_the_answer_is_200(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert wait(f"{server}/health", 20) is None
    assert Slow.asked == 3


def test_it_asks_once_where_there_is_no_time(server: str) -> None:
    assert wait(f"{server}/health", 0) == "HTTP 503"
    assert Slow.asked == 1


def test_nobody_there() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "hexdsl.runtime.ready", f"http://127.0.0.1:{port}/health", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stderr


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("usage:")
