"""One operating point of a replica: latency, throughput, memory by part, and time by operation beside the roofline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hexdsl.costs.arch import Arch
from hexdsl.costs.efficiency import Efficiency, MeasuredReduce, Provenance
from hexdsl.costs.estimate import Estimate
from hexdsl.costs.gpu import BYTES_PER_VALUE, Formats, Gpu, Link
from hexdsl.costs.memory import (
    DEFAULT_ENGINE,
    Engine,
    Slice,
    activation_bytes,
    comm_bytes,
    free_kv_bytes,
    kv_token_bytes,
    weight_bytes,
)
from hexdsl.costs.network import PCIE, SWITCHED
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.predict import predict_rate, predict_tpot, predict_ttft
from hexdsl.costs.serving import Load, Pipeline, Stage, pipeline

MOST_GPUS = 4096


@dataclass(frozen=True, slots=True)
class Replica:
    """A model on `pp` equal stages of `tp` GPUs each; `link` joins all of them, and None means PCIe."""

    arch: Arch
    gpu: Gpu
    formats: Formats
    tp: int = 1
    pp: int = 1
    link: Link | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of each stage, the first stages taking those that are left over."""
        each, more = divmod(self.arch.layers, self.pp)
        return tuple(each + (i < more) for i in range(self.pp))

    @property
    def slices(self) -> tuple[Slice, ...]:
        starts = [sum(self.layers[:i]) for i in range(self.pp)]
        return tuple(Slice(a, a + n, self.tp) for a, n in zip(starts, self.layers, strict=True))

    def line(self, gpu: Gpu | None = None) -> Pipeline:
        """The replica, priced; with another GPU in the place of its own where one is given."""
        gpus = (gpu or self.gpu,) * self.tp
        stages = [Stage(gpus, n, self.link) for n in self.layers]
        return pipeline(stages, [self.link or PCIE] * (self.pp - 1), self.arch, self.formats)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one GPU of the fullest stage; `kv` is what the running requests hold."""

    capacity: float
    usable: float
    weights: float
    kv: float
    activations: float
    buffers: float
    reserve: float
    kv_room: float


@dataclass(frozen=True, slots=True)
class Operation:
    """A part of the time per output token; `roofline` is its share of the speed that the datasheet allows.

    None where the datasheet would allow it no time at all.
    """

    name: str
    seconds: float
    roofline: float | None
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Estimated:
    """What a point comes to.  `running` are the requests that fit; the others of the batch wait."""

    fits: bool
    running: float
    ttft: Estimate
    tpot: Estimate
    requests_per_s: Estimate
    tokens_per_s_gpu: float
    roofline: float
    operations: tuple[Operation, ...]
    memory: Memory


def estimate(replica: Replica, load: Load, batch: float, engine: Engine = DEFAULT_ENGINE) -> Estimated:
    """Prices `batch` running requests of this load.  Raises ValueError where the GPU has no usable number format."""
    room, memory = _memory(replica, load, batch, engine)
    running = max(1.0, min(batch, room))
    line = replica.line()
    tpot = predict_tpot(line, running, load)
    ideal = predict_tpot(replica.line(ideal_gpu(replica)), running, load)
    return Estimated(
        fits=room >= 1,
        running=running,
        ttft=predict_ttft(line, running, load),
        tpot=tpot,
        requests_per_s=predict_rate(line, running, load),
        tokens_per_s_gpu=running / tpot.value / (replica.tp * replica.pp),
        roofline=ideal.value / tpot.value,
        operations=_operations(tpot, ideal),
        memory=memory,
    )


def ideal_gpu(replica: Replica) -> Gpu:
    """The GPU as its datasheet has it: full bandwidth and peak, links at their rate, an engine that costs nothing."""
    link = replica.link or PCIE
    counts = (2, MOST_GPUS)
    fabric: Literal["nvlink", "pcie"] = "nvlink" if link.bandwidth >= SWITCHED else "pcie"
    everything = Efficiency(
        kind="ideal", memory=1.0, kv=1.0, gemm=dict.fromkeys(BYTES_PER_VALUE, 1.0), attention=((1.0,), (1.0,)),
        provenance="modelled", source="datasheet",
        reduce=MeasuredReduce(fabric, counts, (0.0, 0.0), (link.bandwidth,) * 2, "modelled"),
        overheads=Overheads(0.0, 0.0, 0.0, 0.0, 0.0, "modelled"),
    )  # fmt: skip
    return replace(replica.gpu, name="ideal", profile=everything)


def _operations(actual: Estimate, ideal: Estimate) -> tuple[Operation, ...]:
    """The terms of the time per token, each beside its least time; the largest first."""
    least = {t.name: t.value for t in ideal.terms}
    found = [
        Operation(t.name, t.value, least[t.name] / t.value if least.get(t.name) else None, t.provenance)
        for t in actual.terms
    ]
    return tuple(sorted(found, key=lambda o: (-o.seconds, o.name)))


def _memory(replica: Replica, load: Load, batch: float, engine: Engine) -> tuple[float, Memory]:
    """Requests for which the KV cache has room in every stage, and what the fullest stage holds."""
    tokens = float(load.prompt) + float(load.output)  # type: ignore[arg-type]
    rooms = [requests_in(replica, part, tokens, engine) for part in replica.slices]
    tightest = min(range(replica.pp), key=rooms.__getitem__)
    part, gpu = replica.slices[tightest], replica.gpu
    per_request = float(kv_token_bytes(replica.arch, replica.formats, part)) * tokens
    return rooms[tightest], Memory(
        capacity=gpu.memory_bytes,
        usable=min(gpu.memory_bytes, gpu.usable_bytes or gpu.memory_bytes) * engine.utilisation,
        weights=float(weight_bytes(replica.arch, replica.formats, part)),
        kv=per_request * max(0.0, min(batch, rooms[tightest])),
        activations=float(activation_bytes(replica.arch, replica.formats, part, engine)),
        buffers=comm_bytes(gpu, replica.tp),
        reserve=gpu.reserve_bytes,
        kv_room=max(0.0, rooms[tightest]) * per_request,
    )


def requests_in(replica: Replica, part: Slice, tokens: float, engine: Engine = DEFAULT_ENGINE) -> float:
    """Requests of so many tokens whose KV cache fits beside the weights of a stage; negative where these do not fit."""
    free = float(free_kv_bytes(replica.gpu, replica.arch, replica.formats, part, engine))
    return free / (float(kv_token_bytes(replica.arch, replica.formats, part)) * tokens)
