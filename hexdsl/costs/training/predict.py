"""One training strategy as estimates: step time by cause, utilisation, and the memory of each stage's ranks by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hexdsl.costs.arch import Arch, active_layer_params, embedding_params, prefill_attention_flops
from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.estimate import Estimate, Term, sum_terms
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.training.coefficients import Coefficients, default_coefficients, efficiency
from hexdsl.costs.training.fabric import trust
from hexdsl.costs.training.layout import Kinds, Stages, stages
from hexdsl.costs.training.memory import memory_parts, room_bytes
from hexdsl.costs.training.stage import formats
from hexdsl.costs.training.step import Parts, step_parts
from hexdsl.costs.training.strategy import Fabric, TrainStrategy, faults, num

MEMORY_BAND = 0.10
"""Relative half-width of the range of a rank's memory: the 12 peaks published by torchtitan lie within 6 %."""

_NETWORK = ("tensor parallel", "context parallel", "expert parallel", "sharded weights", "gradient exchange")
_GIVEN = ("pipeline hops", "offload", "offload of weights")


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Model FLOPs (mfu) and all FLOPs with recomputation (hfu) over the peak of `format`, the one that layers use.

    Attention counts what the causal mask leaves: 6 layers * seq * width a token beside 6 FLOPs a parameter.
    """

    mfu: float
    hfu: float
    format: str
    model_flops_per_gpu: float


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes of a rank of a stage (`first`, `inner`, `last`, `only`, or its number), and those left on its GPU."""

    stage: str
    need: Estimate


@dataclass(frozen=True, slots=True)
class TrainCost:
    """A training step: seconds, tokens a second, utilisation, and bytes by stage; `room` is the least left anywhere."""

    step: Estimate
    tokens_per_s: float
    utilisation: Utilisation
    memory: tuple[StageMemory, ...]
    room: float

    @property
    def fits(self) -> bool:
        return self.room >= 0


def train_step(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    fabric: Fabric,
    coef: Coefficients | None = None,
) -> TrainCost:
    """The cost of one strategy; `gpu` is a kind for all ranks, or the kinds in each stage.

    The slowest kind of a stage sets its pace.  Raises ValueError where no engine can run the strategy.
    """
    if wrong := faults(arch, strategy):
        raise ValueError(wrong[0])
    coef = coef or default_coefficients()
    at = stages(arch, gpu, strategy)
    kinds = tuple(sorted({g for k in at.kinds for g in k}, key=lambda g: g.name))
    step = _step(step_parts(arch, gpu, strategy, seq, fabric, coef), kinds, strategy, fabric, coef)
    tokens = float(strategy.global_batch) * seq
    return TrainCost(
        step=step,
        tokens_per_s=tokens / step.value,
        utilisation=_utilisation(arch, kinds, strategy, seq, step.value),
        memory=_memory(arch, gpu, strategy, seq, at, coef),
        room=float(room_bytes(arch, gpu, strategy, seq, coef)),
    )


def _step(parts: Parts, kinds: Kinds, strategy: TrainStrategy, fabric: Fabric, coef: Coefficients) -> Estimate:
    arithmetic = weakest(
        *(efficiency(g).provenance for g in kinds),
        *(coef.product_share(g, formats(g, strategy)[0])[1] for g in kinds),
    )
    network = trust(kinds, fabric)
    terms = tuple(Term(name, float(num(value)), _source(name, arithmetic, network)) for name, value in parts.items())
    value, band = sum(t.value for t in terms), coef.band[arithmetic]
    return Estimate(value, value * (1 - band), value * (1 + band), sum_terms(terms))


def _source(name: str, arithmetic: Provenance, network: Provenance) -> Provenance:
    if name in _GIVEN:
        return "given"
    if name == "launches":
        return "modelled"
    return network if name in _NETWORK else arithmetic


def model_flops(arch: Arch, seq: float) -> float:
    """FLOPs per token of forward and backward pass, without recomputation and without the input embedding."""
    products = active_layer_params(arch) * arch.layers + embedding_params(arch)
    return 6 * products + 3 * arch.layers * prefill_attention_flops(arch) * seq


def repeated_flops(arch: Arch, strategy: TrainStrategy, seq: float) -> float:
    """FLOPs per token that recomputation adds; what flash attention repeats inside its kernel is not counted."""
    products = 2 * active_layer_params(arch) * arch.layers
    core = arch.layers * prefill_attention_flops(arch) * seq
    selective = core if strategy.kernels.attention == "unfused" else 0.0
    by_kind = {"none": 0.0, "selective": selective, "ops": products / 2, "full": products + core}
    return strategy.recompute_share * by_kind[strategy.recompute]


def _utilisation(arch: Arch, kinds: Kinds, strategy: TrainStrategy, seq: float, step_s: float) -> Utilisation:
    """Of unlike kinds the mean peak counts, as if each had as many ranks."""
    found = [formats(g, strategy)[0] for g in kinds]
    peak = sum(g.flops[name] for g, name in zip(kinds, found, strict=True)) / len(kinds)
    rate = float(strategy.global_batch) * seq / float(strategy.gpus) / step_s
    work = model_flops(arch, seq)
    again = repeated_flops(arch, strategy, seq)
    name = found[0] if len(set(found)) == 1 else "mixed"
    return Utilisation(rate * work / peak, rate * (work + again) / peak, name, rate * work)


def _memory(
    arch: Arch, gpu: Gpu | Sequence[Kinds], strategy: TrainStrategy, seq: float, at: Stages, coef: Coefficients
) -> tuple[StageMemory, ...]:
    parts = memory_parts(arch, gpu, strategy, seq, coef)
    counts = at.count.ravel()
    found = []
    for i, label in enumerate(_labels(strategy, len(counts))):
        if not counts[i]:
            continue
        terms = tuple(Term(name, float(part[i].item()), "modelled") for name, part in parts.items())
        value = sum(t.value for t in terms)
        need = Estimate(value, value * (1 - MEMORY_BAND), value * (1 + MEMORY_BAND), sum_terms(terms))
        found.append(StageMemory(label, need))
    return tuple(found)


def _labels(strategy: TrainStrategy, entries: int) -> tuple[str, ...]:
    pp = int(num(strategy.pp))
    if strategy.layers or entries != 3:
        return tuple(str(i) for i in range(pp))
    return ("first", "inner", "last" if pp > 1 else "only")
