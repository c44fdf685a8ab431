"""What is compiled ahead of time in tests: every kernel, by its own launcher, on tensors without data.

A case runs a launcher on meta tensors, so that it is compiled with the types, alignments and tiles that the launcher
gives it for an architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.attention import launch_decode, launch_prefill
from hexdsl.kernels.mixed_precision.eight_bit import FP8_SINCE, launch_eight_bit, launch_quantise_rows
from hexdsl.kernels.mixed_precision.formats import FORMATS, MXFP4, PLANE, ROWS, PackedWeight
from hexdsl.kernels.mixed_precision.kv_format import KV_FORMATS, KvSide, allocate_side
from hexdsl.kernels.mixed_precision.kv_write import launch_kv_write
from hexdsl.kernels.mixed_precision.linear import launch_weight_only

META = torch.device("meta")
MMA: dict[int, tuple[str, ...]] = {80: ("HMMA",), 90: ("HGMMA", "HMMA"), 100: ("UTCHMMA", "HMMA")}
"""The 16-bit tensor-core instructions of an architecture; its own come first."""
BYTE_MMA: dict[str, dict[int, tuple[str, ...]]] = {
    "int8": {80: ("IMMA",), 90: ("IGMMA",), 100: ("IMMA", "UTCIMMA")},
    "fp8": {90: ("QGMMA",), 100: ("UTCQMMA",)},
}


@dataclass(frozen=True, slots=True)
class Case:
    """A launch to compile: on architectures from `since` on, with one of `wants[arch]` in the machine code."""

    name: str
    launch: Callable[[], object]
    wants: dict[int, tuple[str, ...]]
    since: int = 80


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _linear()
    yield from _eight_bit()
    yield from _attention()
    yield from _small()


def _linear() -> Iterator[Case]:
    """Every format at the smallest and the largest tile, groups and zero points in between."""
    variants = (
        *product(("int4",), (32, 64, 128, 0), (False, True)), ("int8", 0, False), ("int8", 128, True),
        ("fp8", 0, False), ("fp8", 128, False), ("mxfp4", 32, False),
    )  # fmt: skip
    for (kind, group, zeros), dtype, m in product(variants, (torch.float16, torch.bfloat16), (1, 32, 64, 4096)):
        if m in (32, 64) and (kind, group) not in (("int4", 128), ("mxfp4", 32)):
            continue
        weight = meta_weight(kind, dtype, 4096, 4096, group, zeros)
        x = torch.empty(m, 4096, dtype=dtype, device=META)
        name = f"weight_only/{kind}-g{group}{'-zeros' if zeros else ''}/{_short(dtype)}/m{m}"
        yield Case(name, partial(launch_weight_only, x, weight, None), MMA)


def meta_weight(kind: str, dtype: torch.dtype, n: int, k: int, group: int, zeros: bool) -> PackedWeight:
    """A packed weight without data."""
    fmt = FORMATS[kind]
    groups = k // (2 * PLANE if fmt is MXFP4 else group) if group else 1
    words = torch.empty(n // ROWS, k // fmt.tile, ROWS, PLANE, dtype=torch.int16, device=META)
    scales = torch.empty(groups, n, dtype=torch.int16 if fmt is MXFP4 else dtype, device=META)
    points = torch.empty(groups, n, dtype=torch.int16, device=META) if zeros else None
    return PackedWeight(fmt, dtype, n, k, group, words, scales, points, None)


def _eight_bit() -> Iterator[Case]:
    for (kind, dtype), m in product((("int8", torch.int8), ("fp8", torch.float8_e4m3fn)), (1, 64, 4096)):
        x, w = (torch.empty(rows, 4096, dtype=dtype, device=META) for rows in (m, 4096))
        sx, sw = (torch.empty(rows, device=META) for rows in (m, 4096))
        launch = partial(launch_eight_bit, x, sx, w, sw, None, torch.bfloat16)
        yield Case(f"eight_bit/{kind}/m{m}", launch, BYTE_MMA[kind], FP8_SINCE if kind == "fp8" else 80)


def _attention() -> Iterator[Case]:
    """All formats of keys and values for decode; for prefill those on the diagonal and the mixed ones."""
    for dtype, key, value in product((torch.float16, torch.bfloat16), KV_FORMATS, KV_FORMATS):
        keys, values, tables, lengths = _cache(key, value)
        name = f"{_short(dtype)}-{key}-{value}"
        for group in (4, 16) if key == value else (4,):
            q = torch.empty(4, 8 * group, 128, dtype=dtype, device=META)
            launch = partial(launch_decode, q, keys, values, tables, lengths, 0.1, 0)
            yield Case(f"decode/{name}/group{group}", launch, MMA)
        if key != value and "4" not in key + value:
            continue
        for longest in (4, 16, 2048) if key == value else (2048,):
            q = torch.empty(4 * longest, 32, 128, dtype=dtype, device=META)
            starts = torch.empty(5, dtype=torch.int32, device=META)
            launch = partial(launch_prefill, q, keys, values, tables, starts, lengths, longest, 0.1, True, 0)
            yield Case(f"prefill/{name}/q{longest}", launch, MMA)


def _cache(key: str, value: str) -> tuple[KvSide, KvSide, Tensor, Tensor]:
    keys, values = (allocate_side(kind, 1024, 16, 8, 128, META) for kind in (key, value))
    return (
        keys,
        values,
        torch.empty(4, 256, dtype=torch.int32, device=META),
        torch.empty(4, dtype=torch.int32, device=META),
    )


def _small() -> Iterator[Case]:
    slots = torch.empty(64, dtype=torch.int64, device=META)
    for kind, dtype in product(KV_FORMATS.values(), (torch.float16, torch.bfloat16)):
        side = allocate_side(kind.name, 64, 16, 8, 128, META)
        rows = torch.empty(64, 8, 128, dtype=dtype, device=META)
        launch = partial(launch_kv_write, rows, side.data, side.statistics, slots, kind)
        yield Case(f"kv_write/{kind.name}/{_short(dtype)}", launch, {})
    for kind_name in ("int8", "fp8"):
        x = torch.empty(8, 4096, dtype=torch.bfloat16, device=META)
        yield Case(f"quantise_rows/{kind_name}", partial(launch_quantise_rows, x, kind_name), {})


def _short(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
