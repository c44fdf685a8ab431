"""Measures the machine that it runs on: `python -m hexdsl.runtime.profile`, started by `hexc profile`.

stdout is JSON lines: first the device, then what is being measured (`about`), each measured operator (`operator dtype
sizes seconds`), and what could not be measured (`skipped`).  Exit code 2 where the device is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as functional

T = TypeVar("T")

SEED = 0
MAX_REPEATS = 200


@dataclass(frozen=True)
class Plan:
    """What is measured on a device.  `read` and `product` are (n, k) of weights: beyond all caches, and smaller."""

    dtypes: tuple[str, ...]
    read: tuple[int, int]
    product: tuple[int, int]
    heads: tuple[int, int, int]
    prompts: tuple[int, ...]
    contexts: tuple[tuple[int, int], ...]
    copy: int
    messages: tuple[int, ...]


CPU = Plan(
    dtypes=("fp32", "bf16"),
    read=(8192, 4096),
    product=(2048, 2048),
    heads=(16, 4, 64),
    prompts=(256, 1024, 2048, 4096),
    contexts=((8, 4096), (16, 8192)),
    copy=128 << 20,
    messages=(1 << 14, 1 << 20, 32 << 20),
)
CUDA = Plan(
    dtypes=("bf16", "fp16", "fp8"),
    read=(14336, 8192),
    product=(8192, 8192),
    heads=(32, 8, 128),
    prompts=(512, 1024, 2048, 4096, 8192, 16384),
    contexts=((8, 4096), (32, 8192)),
    copy=1 << 30,
    messages=(1 << 14, 1 << 20, 128 << 20),
)
ROWS = (2048, 1, 256, 16, 1024, 4096)
"""Rows of the products.  What matters most comes first, since the time may end before all is measured."""

FEW_ROWS = 16
"""Products of so few rows time the reading of their weights."""

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Bench:
    """A device, the seconds for one measurement, and when all must be done."""

    device: torch.device
    each_s: float
    deadline: float

    def seconds(self, step: Callable[[], object]) -> float:
        """Median seconds of a step, after one that warms up; a long one is taken twice in all."""
        first = self._once(step, 1)
        if first > self.each_s:
            return self._once(step, 1)
        inner = max(1, min(MAX_REPEATS, int(1e-3 / max(first, 1e-9))))
        until = min(self.deadline, time.perf_counter() + self.each_s)
        found = [self._once(step, inner)]
        while time.perf_counter() < until and len(found) < MAX_REPEATS:
            found.append(self._once(step, inner))
        return statistics.median(found)

    def _once(self, step: Callable[[], object], times: int) -> float:
        self._wait()
        start = time.perf_counter()
        for _ in range(times):
            step()
        self._wait()
        return (time.perf_counter() - start) / times

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def in_time(self, sizes: Sequence[T], what: str) -> Iterator[T]:
        """The first of the sizes, and the others until the time is up."""
        for i, size in enumerate(sizes):
            if i and time.perf_counter() >= self.deadline:
                _skip(f"{what} at {', '.join(map(str, sizes[i:]))}", "time is up")
                return
            yield size


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.profile")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args(argv)
    found = torch.cuda.is_available()
    if args.device == "cuda" and not found:
        _skip("cuda", "PyTorch finds no CUDA device")
        return 2
    device = torch.device(args.device or ("cuda" if found else "cpu"))
    plan = CUDA if device.type == "cuda" else CPU
    torch.manual_seed(SEED)
    _print(describe(device))
    with torch.inference_mode():
        for about, share, measure in MEASUREMENTS:
            _run(about, measure(plan, Bench(device, args.seconds / 50, time.perf_counter() + share * args.seconds)))
    communicate(device, plan, 0.2 * args.seconds)
    return 0


def _run(about: str, rows: Iterator[dict[str, Any]]) -> None:
    """Prints the rows of one measurement, as far as the device takes part."""
    _print({"about": about})
    try:
        for row in rows:
            _print(row)
    except (RuntimeError, NotImplementedError, MemoryError) as error:
        _skip(about, (str(error).splitlines() or [type(error).__name__])[0])


def describe(device: torch.device) -> dict[str, Any]:
    """The device as its driver calls it.  A CPU's memory is shared, so that no amount is its own."""
    version = f"hexc profile, torch {torch.__version__}"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        source = f"{version}, CUDA {torch.version.cuda}"
        return {"gpu": found.name, "memory_bytes": found.total_memory, "source": source}
    return {"gpu": _cpu_name(), "memory_bytes": None, "source": f"{version}, {torch.get_num_threads()} CPU threads"}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "CPU"


def gemm(plan: Plan, bench: Bench) -> Iterator[dict[str, Any]]:
    """Products of m rows with a weight, in each format that the device has."""
    missing: set[str] = set()
    for m in bench.in_time(ROWS, "products of m rows"):
        n, k = plan.read if m <= FEW_ROWS else plan.product
        for dtype in (d for d in plan.dtypes if d not in missing):
            try:
                seconds = bench.seconds(_product(m, n, k, dtype, bench.device))
            except (RuntimeError, NotImplementedError) as error:
                missing.add(dtype)
                _skip(f"{dtype} products", str(error).splitlines()[0])
            else:
                yield _row("gemm", dtype, {"m": m, "n": n, "k": k}, seconds)


def _product(m: int, n: int, k: int, dtype: str, device: torch.device) -> Callable[[], object]:
    if dtype == "fp8":  # takes 16 rows at least
        a, b = (torch.randn(r, k, device=device, dtype=torch.bfloat16).to(TYPES[dtype]) for r in (max(m, 16), n))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)
    x, weight = (torch.randn(r, k, device=device, dtype=TYPES[dtype]) for r in (m, n))
    return lambda: functional.linear(x, weight)


def prefill(plan: Plan, bench: Bench) -> Iterator[dict[str, Any]]:
    """Causal attention of one prompt."""
    dtype = _wide(plan)
    for tokens in bench.in_time(plan.prompts, "prompts of tokens"):
        q, k, v = _heads(1, tokens, tokens, plan, bench.device)
        step = _attend(q, k, v, True)
        yield _row("attention_prefill", dtype, _attention_sizes(1, tokens, plan), bench.seconds(step))


def decode(plan: Plan, bench: Bench) -> Iterator[dict[str, Any]]:
    """Attention of one new token of each sequence over its KV cache."""
    dtype = _wide(plan)
    for batch, tokens in bench.in_time(plan.contexts, "decode attention of (batch, tokens)"):
        q, k, v = _heads(batch, 1, tokens, plan, bench.device)
        step = _attend(q, k, v, False)
        yield _row("attention_decode", dtype, _attention_sizes(batch, tokens, plan), bench.seconds(step))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> Callable[[], object]:
    return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def _wide(plan: Plan) -> str:
    return plan.dtypes[0]


def _heads(batch: int, queries: int, tokens: int, plan: Plan, device: torch.device) -> tuple[torch.Tensor, ...]:
    heads, kv_heads, width = plan.heads
    dtype = TYPES[_wide(plan)]
    counts = ((heads, queries), (kv_heads, tokens), (kv_heads, tokens))
    return tuple(torch.randn(batch, h, length, width, device=device, dtype=dtype) for h, length in counts)


def _attention_sizes(batch: int, tokens: int, plan: Plan) -> dict[str, int]:
    heads, kv_heads, width = plan.heads
    return {"batch": batch, "heads": heads, "kv_heads": kv_heads, "head_dim": width, "tokens": tokens}


def copies(plan: Plan, bench: Bench) -> Iterator[dict[str, Any]]:
    """A copy within the device's memory."""
    source = torch.ones(plan.copy, dtype=torch.uint8, device=bench.device)
    into = source.clone()  # memory that was never written is not there yet
    yield _row("memory_copy", "", {"bytes": plan.copy}, bench.seconds(lambda: into.copy_(source)))


MEASUREMENTS: tuple[tuple[str, float, Callable[[Plan, Bench], Iterator[dict[str, Any]]]], ...] = (
    ("memory copies", 0.05, copies),
    ("decode attention", 0.1, decode),
    ("prefill attention", 0.2, prefill),
    ("matrix products", 0.45, gemm),
)
"""What is measured, and its share of the time."""


def communicate(device: torch.device, plan: Plan, seconds: float) -> None:
    """All-reduce and point-to-point: over NCCL between the GPUs, over gloo between two processes on a CPU."""
    most = torch.cuda.device_count() if device.type == "cuda" else 2
    counts = [n for n in (2, 4, 8) if n <= most]
    if not counts:
        _skip("all-reduce and transfers", "there is one GPU")
    for n in counts:
        _print({"about": f"all-reduce and transfers among {n}"})
        _meet(n, device.type, plan, seconds / len(counts))


def _meet(count: int, kind: str, plan: Plan, seconds: float) -> None:
    """Runs `_rank` in so many processes; a process that hangs is stopped."""
    from torch import multiprocessing

    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    ranks = [context.Process(target=_rank, args=(r, count, port, kind, plan, seconds)) for r in range(count)]
    for process in ranks:
        process.start()
    until = time.monotonic() + 60 + seconds
    for process in ranks:
        process.join(max(0.1, until - time.monotonic()))
    if any(process.exitcode != 0 for process in ranks):
        _skip(f"all-reduce among {count}", "a process failed or did not answer")
    for process in ranks:
        if process.is_alive():
            process.kill()


def _rank(rank: int, count: int, port: int, kind: str, plan: Plan, seconds: float) -> None:
    """One process: all-reduces with all others; the first two also send to one another."""
    from torch import distributed

    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    store = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", init_method=store, rank=rank, world_size=count)
    for size in plan.messages:
        message = torch.zeros(size // 4, device=device)
        found = _agreed(lambda m=message: distributed.all_reduce(m), device, seconds / 10)  # type: ignore[misc]
        if rank == 0:
            _print(_row("all_reduce", "", {"gpus": count, "bytes": size}, found))
        if count == 2:
            there_and_back = _agreed(lambda m=message: _bounce(m, rank), device, seconds / 10)  # type: ignore[misc]
            if rank == 0:
                _print(_row("p2p", "", {"bytes": size}, there_and_back / 2))
    distributed.destroy_process_group()


def _bounce(message: torch.Tensor, rank: int) -> None:
    from torch import distributed

    first, second = (distributed.send, distributed.recv) if rank == 0 else (distributed.recv, distributed.send)
    first(message, 1 - rank)
    second(message, 1 - rank)


def _agreed(step: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median seconds of a step that all processes take equally often."""
    bench = Bench(device, 0.0, float("inf"))
    bench._once(step, 2)
    probe = torch.tensor([bench._once(step, 1)], device=device)
    from torch import distributed

    distributed.all_reduce(probe, op=distributed.ReduceOp.MAX)
    rounds = max(3, min(MAX_REPEATS, int(seconds / max(float(probe), 1e-6))))
    return statistics.median(bench._once(step, 1) for _ in range(rounds))


def _loopback() -> str:
    import socket

    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _row(operator: str, dtype: str, sizes: dict[str, int], seconds: float) -> dict[str, Any]:
    return {"operator": operator, "dtype": dtype, "sizes": sizes, "seconds": seconds}


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def _skip(what: str, why: str) -> None:
    _print({"skipped": f"{what}: {why}"})


if __name__ == "__main__":
    sys.exit(main())
