"""SIGTERM and SIGINT, heard by a thread of their own: the main thread may be deep inside a blocking receive."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signal(action: Callable[[], None]) -> None:
    """Calls `action` at each signal.  Call this before other threads start: they inherit the blocked signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def listen() -> None:
        while True:
            signal.sigwait(STOP_SIGNALS)
            action()

    threading.Thread(target=listen, name="signals", daemon=True).start()
