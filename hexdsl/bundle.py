"""`hexc run DIR`: starts a bundle."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.targets.render import is_bundle


def run_bundle(folder: Path) -> NoReturn:
    """Becomes the bundle's `launch.sh`, which then has our process id, terminal, signals and exit code.

    Exit codes: 0 after SIGTERM, 130 after Ctrl-C, 2 if something is missing, 5 if a process died.
    Raises UsageError (P013) where the folder is not a bundle or bash is missing.
    """
    script = folder / "launch.sh"
    if not is_bundle(folder) or not script.is_file():
        raise _not_runnable(f"`{folder}` is not a bundle of this version of hexc", "make one: hexc compile SPEC -o DIR")
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a shell would pass that on
    try:
        os.execvpe("bash", ["bash", str(script.absolute())], os.environ | {"HEXC_PYTHON": sys.executable})
    except OSError as error:
        raise _not_runnable(f"bash cannot be started: {error.strerror}", "install bash 4.4 or later") from None


def _not_runnable(message: str, help_: str) -> UsageError:
    return UsageError([Diagnostic("P013", message, (), help_)])
