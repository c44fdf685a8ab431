"""How a step travels: rank 0 -> the rest of stage 0, every stage -> the next, the last stage's leader -> rank 0.

A message is a header `[bytes of JSON, rows of hidden state]` (int64), the JSON (uint8) and, between stages, the hidden
state [rows, width].  Sends do not wait, so that a stage computes the next micro-batch while the last one travels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from hexdsl.runtime.config import EngineConfig
from hexdsl.runtime.step import Step, decode, encode

KEPT = 64
"""Sends that may be under way before the oldest is waited for."""


@dataclass
class Pipe:
    """One rank's place in the pipeline: whom it hears, whom it tells."""

    upstream: int | None
    siblings: tuple[int, ...]
    downstream: tuple[int, ...]
    leader_of_last: int
    width: int
    dtype: torch.dtype
    device: torch.device
    _sent: deque[tuple[dist.Work, Tensor]] = field(default_factory=deque)
    _own: deque[list[int]] = field(default_factory=deque)

    def receive(self) -> tuple[Step, Tensor | None]:
        """The next step, and [rows, width] where a stage before computed it."""
        header = self._take(torch.empty(2, dtype=torch.int64))
        size, rows = header.tolist()
        step = decode(self._take(torch.empty(size, dtype=torch.uint8)).numpy().tobytes())
        if rows == 0:
            return step, None
        return step, self._take(torch.empty(rows, self.width, dtype=self.dtype, device=self.device))

    def share(self, step: Step) -> None:
        """Rank 0: the step to the other ranks of stage 0."""
        self._tell(self.siblings, step, None)

    def forward(self, step: Step, hidden: Tensor | None) -> None:
        """The step to the ranks of the next stage that hear this one."""
        self._tell(self.downstream, step, hidden)

    def answer(self, tokens: list[int]) -> None:
        """The last stage's leader: the chosen tokens to rank 0."""
        if self.upstream is None:
            self._own.append(tokens)
        else:
            self._give(torch.tensor(tokens, dtype=torch.int64), 0)

    def collect(self, count: int) -> list[int]:
        """Rank 0: the tokens of the oldest step that is under way and has draws."""
        if count == 0:
            return []
        if self.leader_of_last == 0:
            return self._own.popleft()
        tokens = torch.empty(count, dtype=torch.int64)
        dist.recv(tokens, self.leader_of_last)
        return tokens.tolist()

    def flush(self) -> None:
        """Waits until everything sent has arrived."""
        while self._sent:
            self._sent.popleft()[0].wait()

    def _tell(self, ranks: tuple[int, ...], step: Step, hidden: Tensor | None) -> None:
        if not ranks:
            return
        body = torch.frombuffer(bytearray(encode(step)), dtype=torch.uint8)
        header = torch.tensor([len(body), 0 if hidden is None else len(hidden)], dtype=torch.int64)
        for rank in ranks:
            for message in (header, body, hidden):
                if message is not None:
                    self._give(message, rank)

    def _give(self, message: Tensor, rank: int) -> None:
        message = message.contiguous()
        work = dist.isend(message, rank)
        assert work is not None
        self._sent.append((work, message))
        if len(self._sent) > KEPT:
            self._sent.popleft()[0].wait()

    def _take(self, into: Tensor) -> Tensor:
        dist.recv(into, self.upstream)
        return into


def pipe_for(config: EngineConfig, rank: int, width: int) -> Pipe:
    """The place of a rank, by the config's stages."""
    index = config.stage_of(rank)
    last = len(config.stages) - 1
    return Pipe(
        upstream=_upstream(config, rank),
        siblings=config.stages[0].ranks[1:] if rank == 0 else (),
        downstream=tuple(_listeners(config, rank)) if index < last else (),
        leader_of_last=config.stages[last].ranks[0],
        width=width,
        dtype=getattr(torch, config.model.dtype),
        device=torch.device(config.device),
    )


def _upstream(config: EngineConfig, rank: int) -> int | None:
    """Members of a stage spread over the members of the stage before."""
    index = config.stage_of(rank)
    if index == 0:
        return None if rank == 0 else 0
    before = config.stages[index - 1].ranks
    return before[config.stages[index].ranks.index(rank) % len(before)]


def _listeners(config: EngineConfig, rank: int) -> Iterator[int]:
    following = config.stages[config.stage_of(rank) + 1].ranks
    return (other for other in following if _upstream(config, other) == rank)
