"""hexc: a compiler for running large language models on the GPUs you have.

>>> import hexdsl
>>> loaded = hexdsl.load("serve.hex")      # doctest: +SKIP
>>> plan = hexdsl.plan(loaded)             # doctest: +SKIP
>>> hexdsl.compile(loaded, "bundle")       # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hexdsl.version import __version__

if TYPE_CHECKING:
    from hexdsl.api import check, compile, load, load_json, plan

__all__ = ["__version__", "check", "compile", "load", "load_json", "plan"]


def __getattr__(name: str) -> Any:
    # The API pulls in pydantic and lark; `import hexdsl` alone stays quick for the runtime's processes.
    if name not in __all__:
        raise AttributeError(f"module `hexdsl` has no attribute `{name}`")
    from hexdsl import api

    return getattr(api, name)
