"""Whether a server is ready: `python -m hexdsl.runtime.ready URL SECONDS` ends with 0 once the URL answers 200, else 1.

Standard library only and no proxies, so that it starts quickly and asks the server itself.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

ANSWER_S = 2.0
"""Seconds that one question may take."""

PAUSE_S = 0.2


def wait(url: str, seconds: float) -> str | None:
    """Asks until the answer is 200 or the time is over, at least once; None, or what was wrong at last."""
    end = time.monotonic() + seconds
    while (problem := ask(url)) and time.monotonic() < end:
        time.sleep(PAUSE_S)
    return problem


def ask(url: str) -> str | None:
    """None if the address answers 200, else what was wrong."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"HTTP {status}"


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        print("usage: python -m hexdsl.runtime.ready URL SECONDS", file=sys.stderr)
        return 2
    problem = wait(argv[0], float(argv[1]))
    if problem:
        print(f"{argv[0]}: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
