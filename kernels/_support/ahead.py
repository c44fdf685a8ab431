"""Compiling kernels ahead of time, by their own launchers, for GPUs that are not there.

A launcher runs on meta tensors while `compiling` is active; each launch is then compiled, with the types, alignments
and tiles that the launcher gives it for the architecture, and not run.  Needs a process without Triton's interpreter.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton.backends.nvidia
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction, KernelInterface

ARCHITECTURES = (80, 90, 100)
SHARED_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}
"""Opt-in shared memory of a thread block in bytes (CUDA C++ programming guide, table of compute capabilities)."""

MMA: dict[int, tuple[str, ...]] = {80: ("HMMA",), 90: ("HGMMA", "HMMA"), 100: ("UTCHMMA", "HMMA")}
"""The 16-bit tensor-core instructions of an architecture; its own come first."""

_TOOLS = Path(triton.backends.nvidia.__file__).parent / "bin"
_OPCODE = re.compile(r"^\s*(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]+)(?:\.|\s)", re.M)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


@dataclass(frozen=True, slots=True)
class Case:
    """A launch to compile: on architectures from `since` on, with one of `wants[arch]` in the machine code.

    Up to `stack` bytes of spilled registers are allowed; each exception is explained where it is made.
    """

    name: str
    launch: Callable[[], object]
    wants: dict[int, tuple[str, ...]]
    since: int = 80
    stack: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes of a GPU."""

    kernel: str
    registers: int
    stack: int
    shared: int
    warps: int
    opcodes: dict[str, int]


class _Driver:
    """Stands in for a GPU of one architecture; its number is the device's, because Triton caches by device."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: object = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def is_active(self) -> bool:
        return True

    def map_python_to_cpp_type(self, name: str) -> str:
        return name


class _Pointer:
    """Stands in for a tensor: its dtype, and an address divisible by 16."""

    def __init__(self, tensor: Tensor) -> None:
        self.dtype, self.shape = tensor.dtype, tensor.shape

    def data_ptr(self) -> int:
        return 0

    def ptr_range(self) -> int:
        return 0


def _stand_in(value: Any) -> Any:
    return _Pointer(value) if isinstance(value, Tensor) else value


@contextlib.contextmanager
def compiling(arch: int) -> Iterator[list[Any]]:
    """Inside, every `kernel[grid](...)` is compiled for `arch` instead of run; yields the list of compiled kernels."""
    compiled: list[Any] = []
    original = KernelInterface.__getitem__

    def launch(kernel: Any, grid: Any, *args: Any, **kwargs: Any) -> None:
        assert isinstance(kernel, JITFunction), "TRITON_INTERPRET must not be set"
        named = {name: _stand_in(value) for name, value in kwargs.items()}
        compiled.append(kernel.warmup(*map(_stand_in, args), grid=grid, **named))

    KernelInterface.__getitem__ = lambda kernel, grid: partial(launch, kernel, grid)
    driver.set_active(_Driver(arch))
    try:
        yield compiled
    finally:
        KernelInterface.__getitem__ = original
        driver._active = None  # not reset_active(): it would look for a GPU


def compile_case(case: Case, arch: int) -> tuple[Resources, ...]:
    """The resources of every kernel that the case launches."""
    with compiling(arch) as compiled:
        case.launch()
    return tuple(resources(kernel) for kernel in compiled)


def resources(kernel: Any) -> Resources:
    """Registers and stack by cuobjdump, opcodes by nvdisasm, both of which Triton ships."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _USAGE.search(_said("cuobjdump", "--dump-resource-usage", file.name))
        code = _said("nvdisasm", "-c", file.name) or _said("cuobjdump", "--dump-sass", file.name)
    assert usage is not None, "cuobjdump printed no resource usage"
    meta, opcodes = kernel.metadata, dict(sorted(Counter(_OPCODE.findall(code)).items()))
    return Resources(meta.name, int(usage[1]), int(usage[2]), int(meta.shared), int(meta.num_warps), opcodes)


def _said(tool: str, *arguments: str) -> str:
    return subprocess.run([_TOOLS / tool, *arguments], capture_output=True, text=True, check=False).stdout


def complaints(case: Case, arch: int, found: Resources) -> Iterator[str]:
    """What is wrong with a compiled kernel, in words."""
    where = f"{case.name}: {found.kernel} on sm_{arch}"
    if found.stack > case.stack:
        yield f"{where} spills: {found.stack} bytes of stack, {case.stack} allowed"
    if found.shared > SHARED_LIMIT[arch]:
        yield f"{where} needs {found.shared} bytes of shared memory; the device has {SHARED_LIMIT[arch]}"
