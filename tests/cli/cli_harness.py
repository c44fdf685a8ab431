"""What a command said, and the real executable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

HEXC = Path(sys.executable).with_name("hexc")
PATIENCE_S = 60


@dataclass(frozen=True)
class Said:
    """The exit code and the two streams of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)

    def tidy(self) -> None:
        """Whatever happened, a user never sees a traceback, nor colours where there is no terminal."""
        assert "Traceback" not in self.out + self.err
        assert "\x1b" not in self.out + self.err


class Hexc(Protocol):
    def __call__(self, *argv: str | Path) -> Said: ...


def executable(*argv: str | Path, cwd: Path | None = None, **env: str) -> Said:
    """Runs the installed command as a process of its own."""
    done = subprocess.run(
        [HEXC, *argv], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return Said(done.returncode, done.stdout, done.stderr)
