"""Stands in for a worker: serves /health on a port, with a child of its own.  Usage: stand_in.py PORT [late|deaf]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    port, mode = int(sys.argv[1]), (sys.argv[2:] or ["plain"])[0]
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "300"])
    print(f"pids {os.getpid()} {child.pid}", flush=True)
    if mode == "late":
        time.sleep(300)
    with HTTPServer(("127.0.0.1", port), Health) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
