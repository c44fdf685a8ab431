"""Attention over quantised caches: the kernels in Triton's interpreter against float64 over the dequantised cache.

The rule for errors: at most twice that of torch's attention in the queries' type over the same dequantised cache.
"""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision import attention
from hexdsl.kernels.mixed_precision.attention import decode, decode_op, merge_splits, prefill
from hexdsl.kernels.mixed_precision.attention_reference import attend, attention_reference, gather
from hexdsl.kernels.mixed_precision.kv_format import KV_FORMATS, KvSide, allocate_side, dequantise_kv, quantise_kv
from hexdsl.kernels.mixed_precision.kv_write import kv_write_op, write_kv, write_reference

CPU = torch.device("cpu")
PAGE = 16
DTYPES = (torch.float16, torch.bfloat16)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cache(kind: str, rows: Tensor, paged: bool = True) -> tuple[KvSide, Tensor]:
    """The rows [B, L, kv_heads, d] in a cache, and the tables; unused storage is poisoned."""
    batch, length, heads, dim = rows.shape
    pages = -(-length // PAGE)
    if paged:
        tables = torch.randperm(batch * pages, generator=torch.Generator().manual_seed(5)).view(batch, pages).int() + 1
        side = allocate_side(kind, batch * pages + 1, PAGE, heads, dim, CPU)
        at = torch.arange(length)
        slots = (tables[:, at // PAGE] * PAGE + at % PAGE).flatten()
    else:
        tables = torch.arange(batch).int() * length
        side, slots = allocate_side(kind, 1, batch * length, heads, dim, CPU), torch.arange(batch * length)
    side.data.fill_(255 if side.data.dtype == torch.uint8 else float("nan"))
    if side.statistics is not None:
        side.statistics.fill_(float("nan"))
    write_reference(rows.flatten(0, 1), side.data, side.statistics, slots, side.format)
    return side, tables


def torchs(
    q: Tensor, keys: KvSide, values: KvSide, tables: Tensor, starts: Tensor, lengths: Tensor, window: int
) -> Tensor:
    """torch's own attention in q's type over the dequantised cache, causal."""
    out = torch.zeros_like(q)
    for seq, length in enumerate(lengths.tolist()):
        begin, end = starts[seq : seq + 2].tolist()
        k, v = (gather(side, tables[seq], length).to(q.dtype).transpose(0, 1) for side in (keys, values))
        at, place = torch.arange(length)[None], torch.arange(length - (end - begin), length)[:, None]
        mask = (at <= place) & (at > place - (window or length))
        out[begin:end] = torch.nn.functional.scaled_dot_product_attention(
            q[begin:end].transpose(0, 1), k, v, mask, enable_gqa=True
        ).transpose(0, 1)
    return out


def assert_as_good_as_torch(got: Tensor, q: Tensor, *where: Any, window: int = 0) -> None:
    keys, values, tables, starts, lengths = where
    wanted = attention_reference(q.double(), keys, values, tables, starts, lengths, q.shape[2] ** -0.5, True, window)
    other = torchs(q, keys, values, tables, starts, lengths, window)
    assert bool(torch.isfinite(got).all())
    assert (got.double() - wanted).norm() <= 2 * (other.double() - wanted).norm()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("key", "value"), list(product(KV_FORMATS, KV_FORMATS)))
def test_all_combinations_of_formats(key: str, value: str, dtype: torch.dtype) -> None:
    """Decode and packed prefill; ragged lengths, constant rows, rows of zeros, an offset far from zero."""
    rows = rand(2, 37, 1, 32)
    rows[0, 3], rows[1, 4], rows[1, 5] = 1.5, 0.0, rows[1, 5] + 30
    (keys, tables), (values, _) = cache(key, rows), cache(value, rand(2, 37, 1, 32, seed=1))
    lengths = torch.tensor([37, 20]).int()
    q = rand(2, 3, 32, seed=2).to(dtype)
    assert_as_good_as_torch(decode(q, keys, values, tables, lengths), q, keys, values, tables, torch.arange(3), lengths)
    q, starts = rand(7, 3, 32, seed=3).to(dtype), torch.tensor([0, 5, 7]).int()
    got = prefill(q, keys, values, tables, starts, lengths, 5)
    assert_as_good_as_torch(got, q, keys, values, tables, starts, lengths)


@pytest.mark.parametrize("group", [1, 2, 7, 8, 16])
@pytest.mark.parametrize("dim", [64, 128])
def test_groups_of_query_heads(group: int, dim: int) -> None:
    (keys, tables), (values, _) = cache("int4", rand(1, 20, 2, dim)), cache("int8", rand(1, 20, 2, dim, seed=1))
    q, lengths = rand(1, 2 * group, dim, seed=2).half(), torch.tensor([20]).int()
    assert_as_good_as_torch(decode(q, keys, values, tables, lengths), q, keys, values, tables, torch.arange(2), lengths)
    q, starts = rand(9, 2 * group, dim, seed=3).half(), torch.tensor([0, 9]).int()
    assert_as_good_as_torch(
        prefill(q, keys, values, tables, starts, lengths, 9), q, keys, values, tables, starts, lengths
    )


@pytest.mark.parametrize("paged", [True, False])
@pytest.mark.parametrize("window", [0, 1, 17])
def test_windows_pages_and_packed_caches(paged: bool, window: int) -> None:
    (keys, tables), (values, _) = (
        cache("int8", rand(2, 150, 1, 32), paged),
        cache("fp8", rand(2, 150, 1, 32, seed=1), paged),
    )
    lengths = torch.tensor([150, 33]).int()
    q = rand(2, 2, 32, seed=2).half()
    got = decode(q, keys, values, tables, lengths, window=window)
    assert_as_good_as_torch(got, q, keys, values, tables, torch.arange(3), lengths, window=window)
    q, starts = rand(40, 2, 32, seed=3).half(), torch.tensor([0, 30, 40]).int()
    got = prefill(q, keys, values, tables, starts, lengths, 30, window=window)
    assert_as_good_as_torch(got, q, keys, values, tables, starts, lengths, window=window)


@pytest.mark.parametrize("splits", [1, 2, 3, 7])
def test_splits_merge_exactly(splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More splits than tiles as well: an empty split weighs nothing."""
    monkeypatch.setattr(attention, "splits_for", lambda *_: splits)
    (keys, tables), (values, _) = cache("int8", rand(2, 300, 1, 32)), cache("int4", rand(2, 300, 1, 32, seed=1))
    lengths, starts = torch.tensor([300, 5]).int(), torch.tensor([0, 4, 6]).int()
    q = rand(2, 2, 32, seed=2).half()
    assert_as_good_as_torch(decode(q, keys, values, tables, lengths), q, keys, values, tables, torch.arange(3), lengths)
    q = rand(6, 2, 32, seed=3).half()
    got = prefill(q, keys, values, tables, starts, lengths, 4)
    assert_as_good_as_torch(got, q, keys, values, tables, starts, lengths)


def test_merging_is_the_softmax_of_the_whole() -> None:
    scores, values = rand(12) * 30, rand(12, 32, seed=1)
    parts = [(scores[i : i + 4], values[i : i + 4]) for i in (0, 4, 8)]
    partial = torch.stack([torch.softmax(s, 0) @ v for s, v in parts])[:, None, None]
    lse = torch.stack([torch.logsumexp(s, 0) for s, _ in parts])[:, None, None] / torch.log(torch.tensor(2.0))
    got = merge_splits(partial, lse, torch.empty(1, 1, 32))
    torch.testing.assert_close(got[0, 0], torch.softmax(scores, 0) @ values, rtol=1e-5, atol=1e-6)


def test_not_causal() -> None:
    (keys, tables), (values, _) = cache("int8", rand(1, 40, 1, 32)), cache("int8", rand(1, 40, 1, 32, seed=1))
    q, starts, lengths = rand(6, 2, 32, seed=2).half(), torch.tensor([0, 6]).int(), torch.tensor([40]).int()
    got = prefill(q, keys, values, tables, starts, lengths, 6, causal=False)
    wanted = attention_reference(q.double(), keys, values, tables, starts, lengths, 32**-0.5, False, 0)
    assert (got.double() - wanted).norm() < 1e-3 * wanted.norm()


def test_large_scores_and_empty_sequences() -> None:
    (keys, tables), (values, _) = cache("int8", 1000 * rand(2, 20, 1, 32)), cache("int4", rand(2, 20, 1, 32, seed=1))
    q = 100 * rand(2, 1, 32, seed=2).half()
    got = decode(q, keys, values, tables, torch.tensor([20, 0]).int())
    assert bool(torch.isfinite(got).all())
    assert torch.equal(got[1], torch.zeros(1, 32).half())


def test_tiny_values_survive_float16() -> None:
    """Scales of 1e-6 times probabilities would vanish in float16; the running unit keeps them."""
    (keys, tables), (values, _) = cache("int8", rand(1, 64, 1, 32)), cache("int8", 3e-4 * rand(1, 64, 1, 32, seed=1))
    q, lengths = rand(1, 1, 32, seed=2).half(), torch.tensor([64]).int()
    got = decode(q.half(), keys, values, tables, lengths).double()
    wanted = attention_reference(q.double(), keys, values, tables, torch.arange(2), lengths, 32**-0.5, True, 0)
    assert (got - wanted).norm() < 5e-3 * wanted.norm()


def test_the_reference_is_attention() -> None:
    """In float64, against torch's own attention."""
    q, k, v = rand(5, 4, 32).double(), rand(9, 2, 32, seed=1).double(), rand(9, 2, 32, seed=2).double()
    seen = torch.ones(5, 9, dtype=torch.bool).tril(4)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), seen, enable_gqa=True
    )
    torch.testing.assert_close(attend(q, k, v, 32**-0.5, seen), wanted.transpose(0, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float32])
@pytest.mark.parametrize("kind", list(KV_FORMATS))
def test_writing_is_the_reference_bit_by_bit(kind: str, dtype: torch.dtype) -> None:
    """Constant rows, zeros, subnormal numbers, offsets, numbers beyond float16; skipped tokens leave no trace."""
    rows = rand(20, 2, 64)
    rows[3], rows[4], rows[5], rows[6] = 1.25, 0.0, rows[5] * 1e-6, rows[6] + 100
    rows[8, 0, 0] = 60000.0 if dtype == torch.float16 else 1e6
    slots = torch.randperm(80, generator=torch.Generator().manual_seed(1))[:20]
    slots[7] = -1
    got, wanted = (allocate_side(kind, 5, 16, 2, 64, CPU) for _ in range(2))
    write_kv(got, rows.to(dtype), slots)
    write_reference(rows.to(dtype), wanted.data, wanted.statistics, slots, wanted.format)
    assert torch.equal(got.data.view(torch.uint8), wanted.data.view(torch.uint8))
    assert got.statistics is None or torch.equal(got.statistics, wanted.statistics)


@pytest.mark.parametrize("kind", ["fp8", "int8", "int4"])
def test_rounding_is_within_half_a_step_and_constants_are_exact(kind: str) -> None:
    fmt = KV_FORMATS[kind]
    rows = torch.cat((rand(8, 64), torch.full((1, 64), 0.7), torch.zeros(1, 64))).half()
    data, kept = quantise_kv(rows, fmt)
    back = dequantise_kv(data, kept, fmt)
    step = kept[:, :1].double() * (0.5001 if kind != "fp8" else 16.0001)
    assert bool(((back - rows.double()).abs() <= step + 1e-4 * rows.double().abs()).all())
    if kind != "fp8":
        assert torch.equal(back[8:], rows[8:].double())


def test_int4_halves_lie_in_nibble_planes() -> None:
    data, kept = quantise_kv(torch.arange(32.0)[None], KV_FORMATS["int4"])
    assert kept is not None
    back = (torch.cat((data & 15, data >> 4), -1).double() - 8) * kept[:, :1].double() + kept[:, 1:].double()
    assert (back - torch.arange(32.0)).abs().max() <= kept[0, 0] / 2 + 0.01


def _sides() -> tuple[KvSide, KvSide, Tensor]:
    (keys, tables), (values, _) = cache("int8", rand(2, 20, 2, 32)), cache("int4", rand(2, 20, 2, 32, seed=1))
    return keys, values, tables


def _decode(q: Tensor | None = None, **changes: Any) -> Tensor:
    keys, values, tables = _sides()
    given: dict[str, Any] = {"tables": tables, "lengths": torch.tensor([20, 3]).int(), "keys": keys, "values": values}
    return decode(rand(2, 4, 32).half() if q is None else q, **{**given, **changes})


def test_operations_keep_the_contract_of_torch() -> None:
    keys, values, tables = _sides()
    lengths = torch.tensor([20, 3]).int()
    parts = (keys.data, values.data, keys.statistics, values.statistics, tables)
    torch.library.opcheck(decode_op, (rand(2, 4, 32).half(), *parts, lengths, 0.1, 0, "int8", "int4"))
    torch.library.opcheck(
        attention.prefill_op,
        (rand(5, 4, 32).half(), *parts, torch.tensor([0, 2, 5]).int(), lengths, 3, 0.1, True, 0, "int8", "int4"),
    )
    torch.library.opcheck(
        kv_write_op, (rand(3, 2, 32).half(), keys.data, keys.statistics, torch.tensor([1, 2, -1]), "int8")
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: _decode(rand(2, 5, 32).half()), "q: 5 heads are no multiple of 2"),
        (lambda: _decode(rand(2, 4, 64).half()), "keys: shape"),
        (lambda: _decode(rand(2, 4, 48).half()), "head_dim: 48"),
        (lambda: _decode(rand(2, 4, 32)), "q: float32"),
        (lambda: _decode(window=-1), "window: -1"),
        (lambda: _decode(lengths=torch.tensor([1.0, 2.0])), "lengths: float32"),
        (lambda: _decode(lengths=torch.tensor([1])), "tables: shape"),
        (lambda: _decode(tables=torch.tensor([0, 20])), "packed cache"),
        (lambda: _decode(keys=KvSide(KV_FORMATS["int8"], _sides()[0].data, None)), "int8 has 2 statistics"),
        (lambda: _decode(values=cache("int4", rand(2, 40, 2, 32))[0]), "values: "),
        (lambda: allocate_side("int2", 1, 1, 1, 32, CPU), "kind: 'int2'"),
        (lambda: write_kv(_sides()[0], rand(2, 2, 32), torch.tensor([0])), "slots: shape"),
        (lambda: write_kv(_sides()[0], rand(2, 3, 32), torch.tensor([0, 1])), "data: shape"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()
