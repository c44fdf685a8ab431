"""The process of the `echo` engine: `python -m hexc_example.server HOST PORT`."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Echo(BaseHTTPRequestHandler):
    """GET answers 200; POST answers with the body that it was sent."""

    def do_GET(self) -> None:
        self._answer(b"ok")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent: the launcher's log is for what went wrong."""


if __name__ == "__main__":
    with HTTPServer((sys.argv[1], int(sys.argv[2])), Echo) as server:
        server.serve_forever()
