"""How a training job is spread over GPUs: its strategy, and which rank runs where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir, Rounded

Axis = Literal["tp", "cp", "dp", "ep", "pp"]


class TrainMemory(Ir):
    """Memory of a rank of a stage at its peak, in bytes."""

    capacity_bytes: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int = Field(description="kept for the backward pass, and the layer or loss at work")
    other_bytes: int = Field(description="gathered weights, fragmentation, communication buffers, the runtime")


class TrainStage(Ir):
    """A pipeline stage: some layers, on equal GPUs.  The first also holds the embedding, the last the output head."""

    layers: tuple[int, int] = Field(description="first layer, and the one after the last")
    gpu: str
    micro_batch_s: Rounded = Field(description="seconds of a micro-batch, forward and backward, without hops")
    memory: TrainMemory


class Strategy(Ir):
    """Degrees of parallelism, and how memory is saved."""

    tp: int
    pp: int
    dp: int
    cp: int = 1
    ep: int = Field(1, description="expert-parallel degree, the inner part of dp times cp")
    zero: int = Field(description="ZeRO stage")
    micro_batch: int = Field(description="sequences of a micro-batch")
    accumulation: int = Field(description="micro-batches of a step of each data-parallel replica")
    recompute: Literal["none", "selective", "full"] = Field("none", description="activations that are computed anew")
    offload: Literal["none", "optimizer", "all"] = Field("none", description="what lies in the host's memory")
    sequence_parallel: bool = False
    stages: tuple[TrainStage, ...]

    @property
    def ranks(self) -> int:
        return self.tp * self.cp * self.dp * self.pp


class Seat(Ir):
    """A machine of the job.  Global ranks are numbered seat by seat, in the order of `devices`."""

    machine: str
    minipod: str = Field("", description="the spine, or other part of the network, under which it lies")
    devices: tuple[int, ...] = Field(description="indices of the GPUs within the machine")
    cells: tuple[int, ...] = Field(
        description="of each device the place in the grid: tp + tp degree * (cp + cp degree * (dp + dp degree * pp))"
    )


class Spread(Ir):
    """Over how many minipods the communication groups of a kind lie, and what they send."""

    axis: Axis
    groups: int
    size: int = Field(description="ranks of a group")
    most: int = Field(description="minipods that the most spread group touches")
    mean: Rounded
    bytes_per_step: Rounded = Field(description="bytes that a rank sends in this group in a step")
    weight: Rounded = Field(description="its weight in `spread`")


class Training(Ir):
    """A training job: strategy and placement."""

    strategy: Strategy
    seats: tuple[Seat, ...] = ()
    spreads: tuple[Spread, ...] = ()
