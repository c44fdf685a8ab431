"""Choosing tokens from logits.  A draw depends only on the request's seed and on the token's index in the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from hexdsl.runtime.step import Draw


def choose(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """One token for each row of `logits` [n, vocabulary]: the likeliest at temperature 0, else drawn by nucleus."""
    greedy: list[int] = logits.argmax(dim=-1).tolist()
    return [
        token if draw.temperature == 0 else _nucleus(row, draw)
        for token, row, draw in zip(greedy, logits, draws, strict=True)
    ]


def _nucleus(row: Tensor, draw: Draw) -> int:
    """One of the likeliest tokens whose mass together reaches top_p (Holtzman et al., 2020)."""
    probabilities = torch.softmax(row.double() / draw.temperature, dim=-1)
    ranked, order = probabilities.sort(descending=True, stable=True)
    mass = ranked.cumsum(dim=0)
    kept = max(1, int((mass - ranked < draw.top_p).sum()))
    target = uniform(draw.seed, draw.index) * float(mass[kept - 1])
    place = int(torch.searchsorted(mass[:kept], target, right=True))
    return int(order[min(place, kept - 1)])


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) from a hash of the pair, so that batching and preemption cannot move it."""
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
