"""hexc: a compiler for running large language models on the GPUs you have.

>>> import hexdsl
>>> loaded = hexdsl.load("serve.hex")      # doctest: +SKIP
>>> plan = hexdsl.plan(loaded)             # doctest: +SKIP
>>> hexdsl.compile(loaded, "bundle")       # doctest: +SKIP

Whatever is wrong with a spec, or with how a function was called, is raised as a `SpecError`, whose `diagnostics` say
what, where and how to mend it.  `UsageError` (a missing file, an unusable folder), `NoPlanError` (no plan exists) and
`LimitError` (a solver limit ended the search) are kinds of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hexdsl.version import __version__

if TYPE_CHECKING:
    from hexdsl.api import Loaded, check, compile, load, load_json, load_text, plan
    from hexdsl.ir.diagnostic import Diagnostic, LimitError, NoPlanError, SpecError, UsageError

__all__ = [
    "Diagnostic",
    "LimitError",
    "Loaded",
    "NoPlanError",
    "SpecError",
    "UsageError",
    "__version__",
    "check",
    "compile",
    "load",
    "load_json",
    "load_text",
    "plan",
]

_ERRORS = ("Diagnostic", "LimitError", "NoPlanError", "SpecError", "UsageError")


def __getattr__(name: str) -> Any:
    # The API pulls in pydantic and lark; `import hexdsl` alone stays quick for the runtime's processes.
    if name not in __all__:
        raise AttributeError(f"module `hexdsl` has no attribute `{name}`")
    return getattr(import_module("hexdsl.ir.diagnostic" if name in _ERRORS else "hexdsl.api"), name)


def __dir__() -> list[str]:
    return __all__
