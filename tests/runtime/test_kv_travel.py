"""KV between ranks over real sockets, in this process: any layout to any other, what is refused, what breaks."""

from __future__ import annotations

import contextlib
import socket
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime_harness import engine_config, until
from torch import Tensor

from hexdsl.runtime import kv_wire
from hexdsl.runtime.config import EngineConfig
from hexdsl.runtime.kv_codec import bytes_of, pack, unpack
from hexdsl.runtime.kv_layout import Held, held_by
from hexdsl.runtime.kv_receive import Receiver
from hexdsl.runtime.kv_send import Sender
from hexdsl.runtime.step import Open, Peer, Send

HEADS, WIDTH, LAYERS = 4, 6, 3
NAME = "0f" * 16
Notices = list[tuple[str, str, int]]


def layout(stages: list[tuple[int, int, int]], heads: int = HEADS) -> list[Held]:
    config = EngineConfig.model_validate(engine_config(Path("x"), stages))
    return [held_by(config, rank, heads) for rank in range(config.world)]


def cache(held: Held, blocks: int, tokens: int) -> dict[int, Tensor]:
    heads = held.heads[1] - held.heads[0]
    return {layer: torch.zeros(blocks, 2, tokens, heads, WIDTH) for layer in range(*held.layers)}


@pytest.fixture(scope="module")
def everything() -> Tensor:
    """[layers, tokens, 2, heads, width]: the KV of 37 tokens in a whole model."""
    return torch.randn(LAYERS, 37, 2, HEADS, WIDTH, generator=torch.Generator().manual_seed(0))


def fill(pools: dict[int, Tensor], held: Held, blocks: list[int], kv: Tensor) -> None:
    for layer, pool in pools.items():
        for p in range(kv.shape[1]):
            pool[blocks[p // pool.shape[2]], :, p % pool.shape[2]] = kv[layer, p][:, slice(*held.heads)]


def taken(pools: dict[int, Tensor], layer: int, blocks: list[int], tokens: int) -> Tensor:
    pool = pools[layer]
    return torch.stack([pool[blocks[p // pool.shape[2]], :, p % pool.shape[2]] for p in range(tokens)])


def note(notices: Notices, rank: int, name: str, word: str, _: int) -> None:
    notices.append((name, word, rank))


WHOLE, SHARED = [(0, 3, 1)], [(0, 3, 4)]
MIXED, SPLIT = [(0, 1, 2), (1, 3, 1)], [(0, 2, 1), (2, 3, 2)]


@pytest.mark.parametrize(("source", "target"), [(WHOLE, MIXED), (MIXED, SPLIT), (SHARED, SPLIT), (SPLIT, WHOLE)])
@pytest.mark.parametrize("heads", [HEADS, 2])
def test_any_layout_to_any_other(source: Any, target: Any, heads: int, everything: Tensor) -> None:
    """Two heads on four ranks are held twice, and sent once."""
    kv = everything[:, :, :, :heads]
    notices: Notices = []
    ends, there = layout(target, heads), [9, 2, 5, 1, 0]
    taking = [cache(held, 10, 8) for held in ends]
    receivers = [
        Receiver("127.0.0.1", pools, held, partial(note, notices, rank))
        for rank, (pools, held) in enumerate(zip(taking, ends, strict=True))
    ]
    peers = tuple(Peer(*r.address, h.layers, h.heads) for r, h in zip(receivers, ends, strict=True))
    for receiver in receivers[1:]:
        receiver.open(Open(NAME, tuple(there), 37))
    here = [4, 0, 3]
    for held in layout(source, heads):
        pools = cache(held, 5, 16)
        fill(pools, held, here, kv)
        sender = Sender(pools, held, lambda name: notices.append((name, "broken", -1)))
        for start, end in ((0, 0), (0, 20), (20, 37)):
            sender.send(Send(NAME, tuple(here), start, end, peers, 16))
    receivers[0].open(Open(NAME, tuple(there), 37))  # after its KV may have come
    assert until(lambda: len(notices) >= len(ends), 20)
    assert sorted(notices) == [(NAME, "done", rank) for rank in range(len(ends))]
    for pools, held in zip(taking, ends, strict=True):
        for layer in range(*held.layers):
            assert torch.equal(taken(pools, layer, there, 37), kv[layer][:, :, slice(*held.heads)])


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> tuple[Receiver, dict[int, Tensor], Notices]:
    monkeypatch.setenv("HEXC_API_KEY", "a-secret")
    monkeypatch.setattr(kv_wire, "PATIENCE", 0.5)
    notices: Notices = []
    held = Held((0, 1), (0, 2), (0, 2))
    pools = cache(held, 4, 4)
    return Receiver("127.0.0.1", pools, held, lambda *said: notices.append(said)), pools, notices


PIECE = {"layer": 0, "heads": (0, 2), "positions": (0, 4), "bits": 32, "dtype": "float32", "bytes": 4 * 2 * 2 * 6 * 4}
ONES = torch.ones(4, 2, 2, WIDTH)


def give(receiver: Receiver, greeting: kv_wire.Hello, **changes: Any) -> None:
    """Sends a piece, and waits for the end of the stream, which may come in the middle."""
    piece = kv_wire.Piece.model_validate(PIECE | changes)
    with kv_wire.connect(*receiver.address) as connection, contextlib.suppress(ConnectionError):
        with contextlib.suppress(OSError):
            kv_wire.send(connection, greeting)
            kv_wire.send(connection, piece, pack(ONES, 32))
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_kv_lies_in_its_blocks_and_nowhere_else(receiver: Any) -> None:
    taking, pools, notices = receiver
    taking.open(Open(NAME, (2,), 4))
    give(taking, kv_wire.hello(NAME))
    assert until(lambda: notices == [(NAME, "done", -1)], 5)
    assert pools[0][2].eq(1).all()
    assert pools[0].sum() == ONES.sum()


@pytest.mark.parametrize(
    ("greeting", "changes"),
    [
        (kv_wire.Hello(transfer=NAME, key="wrong"), {}),
        (kv_wire.Hello(transfer=NAME), {}),
        (kv_wire.Hello(transfer="another", key="a-secret"), {}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"layer": 1}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"heads": (0, 3)}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"heads": (1, 1)}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"positions": (1, 5)}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"positions": (-1, 3)}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"bytes": 8}),
        (kv_wire.Hello(transfer=NAME, key="a-secret"), {"bits": 4}),
    ],
)
def test_what_is_not_agreed_is_refused(receiver: Any, greeting: kv_wire.Hello, changes: dict[str, Any]) -> None:
    taking, pools, notices = receiver
    taking.open(Open(NAME, (2,), 4))
    give(taking, greeting, **changes)
    assert pools[0].sum() == 0
    assert (NAME, "done", -1) not in notices


def test_a_header_that_is_too_long_is_not_read(receiver: Any) -> None:
    taking, _, _ = receiver
    with kv_wire.connect(*taking.address) as connection:
        connection.sendall(struct.pack("!I", kv_wire.HEADER_BYTES + 1))
        assert connection.recv(1) == b""


def test_a_stream_that_ends_early_has_broken_the_transfer(receiver: Any) -> None:
    taking, _, notices = receiver
    taking.open(Open(NAME, (0, 1), 8))
    give(taking, kv_wire.hello(NAME))
    assert until(lambda: notices == [(NAME, "broken", -1)], 5)


def test_nothing_is_written_once_a_transfer_is_closed(receiver: Any) -> None:
    taking, pools, notices = receiver
    taking.open(Open(NAME, (2,), 4))
    taking.close(NAME)
    give(taking, kv_wire.hello(NAME))
    assert pools[0].sum() == 0
    assert notices == []


def test_a_peer_that_is_not_there_breaks_the_transfer() -> None:
    broken: list[str] = []
    held = layout(WHOLE)[0]
    sender = Sender(cache(held, 1, 4), held, broken.append)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    sender.send(Send(NAME, (0,), 0, 4, (Peer("127.0.0.1", port, (0, 3), (0, HEADS)),), 16))
    assert until(lambda: broken == [NAME], 5)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9), st.sampled_from([4, 8]))
def test_quantised_values_are_within_half_a_step(values: list[float], bits: int) -> None:
    kv = torch.tensor(values).expand(2, 2, 1, len(values)).contiguous()
    data = bytearray(pack(kv, bits))
    shape = (2, 2, 1, len(values))
    assert len(data) == bytes_of(shape, torch.float32, bits)
    step = (max(values) - min(values)) / (2**bits - 1)
    assert (unpack(data, shape, torch.float32, bits) - kv).abs().max() <= step / 2 + 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_constant_vectors_come_back_exactly(dtype: torch.dtype, bits: int) -> None:
    kv = torch.full((3, 2, 2, WIDTH), 0.375, dtype=dtype)
    kv[1] = 0
    assert torch.equal(unpack(bytearray(pack(kv, bits)), (3, 2, 2, WIDTH), dtype, bits), kv)
