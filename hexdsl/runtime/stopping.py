"""What a request to stop does: before the rank is ready it ends the process, later what the rank has set."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Stopping:
    """Remembers that a stop was asked for, and passes it on once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._action: Callable[[], None] = lambda: os._exit(0)
        self._asked = False

    @property
    def asked(self) -> bool:
        return self._asked

    def ask(self) -> None:
        with self._lock:
            if not self._asked:
                self._asked = True
                self._action()

    def when_asked(self, action: Callable[[], None]) -> None:
        with self._lock:
            self._action = action
