"""Every mixed-precision kernel compiles for every architecture, without spills, within shared memory, on tensor cores.

The machine code comes from the real launchers on meta tensors, with a stand-in for Triton's driver.  Run as a script,
this file compiles and prints what it found: the tests need a process without Triton's interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ARCHITECTURES = (80, 90, 100)
SHARED_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}
"""Opt-in shared memory of a thread block (CUDA C++ programming guide, table of compute capabilities)."""

OPCODE = re.compile(r"^\s*(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]+)(?:\.|\s)", re.M)
USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")

DEFAULT = (
    "weight_only/int4-g128-zeros/bf16/m1",
    "weight_only/int8-g0/bf16/m1",
    "weight_only/mxfp4-g32/fp16/m4096",
    "eight_bit/int8/m4096",
    "eight_bit/fp8/m64",
    "decode/bf16-int4-int8/group4",
    "decode/fp16-fp8-fp8/group16",
    "prefill/bf16-int4-int4/q2048",
    "kv_write/int4/bf16",
    "quantise_rows/fp8",
)
"""What an ordinary run compiles: cases whose names begin so.  HEXC_GATE=all takes every case."""


class FakeDriver:
    """Stands in for a GPU of one architecture; its number is the device's, because Triton caches by device."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: object = None) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")

    def is_active(self) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty


class FakePointer:
    """Stands in for a tensor: its type, and an address that 16 divides."""

    def __init__(self, tensor: Any) -> None:
        self.dtype, self.shape = tensor.dtype, tensor.shape

    def data_ptr(self) -> int:
        return 0

    def ptr_range(self) -> int:
        return 0


@contextlib.contextmanager
def captured(arch: int) -> Iterator[list[Any]]:
    """Inside, launching a kernel compiles it for `arch` instead; the list gathers what was compiled."""
    import torch
    from triton.runtime import driver
    from triton.runtime.jit import KernelInterface

    compiled: list[Any] = []
    original = KernelInterface.__getitem__

    def fake(value: Any) -> Any:
        return FakePointer(value) if isinstance(value, torch.Tensor) else value

    def getitem(fn: Any, grid: Any) -> Any:
        def launch(*args: Any, **named: Any) -> None:
            named = {name: fake(value) for name, value in named.items()}
            compiled.append(fn.warmup(*map(fake, args), grid=grid, **named))

        return launch

    KernelInterface.__getitem__ = getitem
    driver.set_active(FakeDriver(arch))
    try:
        yield compiled
    finally:
        KernelInterface.__getitem__ = original


def resources(kernel: Any) -> dict[str, Any]:
    """Registers, stack, shared memory and opcodes of a compiled kernel."""
    import triton.backends.nvidia as nvidia

    tools = Path(nvidia.__file__).parent / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([str(tools / tool), option, file.name], capture_output=True, text=True, check=True).stdout
            for tool, option in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c"))
        )
    found = USAGE.search(usage)
    assert found is not None, usage
    opcodes = Counter(OPCODE.findall(code))
    return {
        "kernel": kernel.metadata.name,
        "registers": int(found[1]),
        "stack": int(found[2]),
        "shared": kernel.metadata.shared,
        "opcodes": opcodes,
    }


def main() -> None:
    """Compiles the cases whose names begin with one of the arguments (none: all) and prints a line of JSON for each."""
    from hexdsl.kernels.mixed_precision.gate import cases

    for case in cases():
        if len(sys.argv) > 1 and not case.name.startswith(tuple(sys.argv[1:])):
            continue
        for arch in (a for a in ARCHITECTURES if a >= case.since):
            with captured(arch) as compiled:
                case.launch()
            for kernel in compiled:
                row = {"case": case.name, "arch": arch, "wants": case.wants.get(arch, ()), **resources(kernel)}
                print(json.dumps(row), flush=True)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    chosen = () if os.environ.get("HEXC_GATE") == "all" else DEFAULT
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, __file__, *chosen], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    spilled = [(r["case"], r["kernel"], r["arch"], r["stack"]) for r in rows if r["stack"]]
    assert spilled == []


def test_shared_memory_fits(rows: list[dict[str, Any]]) -> None:
    assert [(r["case"], r["arch"], r["shared"]) for r in rows if r["shared"] > SHARED_LIMIT[r["arch"]]] == []


def test_products_use_tensor_cores(rows: list[dict[str, Any]]) -> None:
    helpers = ("reduce_kernel", "merge_kernel")
    slow = [
        (r["case"], r["arch"])
        for r in rows
        if r["wants"] and r["kernel"] not in helpers and not set(r["wants"]) & set(r["opcodes"])
    ]
    assert slow == []


def test_four_bit_weights_are_decoded_without_conversions(rows: list[dict[str, Any]]) -> None:
    found = [r for r in rows if r["kernel"] == "weight_only_kernel"]
    assert found
    assert [(r["case"], r["arch"]) for r in found if "I2F" in r["opcodes"]] == []


if __name__ == "__main__":
    main()
