"""The metrics and decisions that rules of each workflow may name."""

from __future__ import annotations

from hexdsl.ir.quantity import COST, COUNT, PLAIN, RATE, SECONDS, SHARE, WHOLE, Unit, dimension
from hexdsl.ir.spec.rule import MetricInfo

THROUGHPUT = Unit(
    (dimension(tok=1, s=-1), dimension(req=1, s=-1)), "", "a rate of tokens or requests", "5000tok/s or 12req/s"
)
NUMBER = Unit((PLAIN,), "", "a plain number", "8")
ENERGY = Unit((dimension(W=1),), "", "a power", "2000W")


def _metric(name: str, unit: Unit, description: str) -> MetricInfo:
    return MetricInfo(name=name, unit=unit, description=description)


def _distribution(name: str, unit: Unit, description: str) -> MetricInfo:
    return MetricInfo(name=name, unit=unit, description=description, stats=True)


def _decision(name: str, description: str, unit: Unit = COUNT) -> MetricInfo:
    return MetricInfo(name=name, unit=unit, description=description, decision=True)


def _of(name: str, parts: tuple[str, ...], unit: Unit, description: str) -> MetricInfo:
    return MetricInfo(name=name, unit=unit, description=description, parts=parts)


COST_ = _metric("cost", COST, "price of the GPUs in use, per time")
DEVICES = _decision("devices", "GPUs that the plan uses")
TTFT = _distribution("ttft", SECONDS, "time to first token")
TPOT = _distribution("tpot", SECONDS, "time per output token after the first")
LATENCY = _distribution("latency", SECONDS, "time from request to last token")
REQUEST = (TTFT, TPOT, LATENCY)
RATE_ = _metric("throughput", THROUGHPUT, "sustained output tokens (or requests) per second at saturation")
TP = _decision("tp", "tensor-parallel degree of every stage")
PP = _decision("pp", "pipeline stages")
DP = _decision("dp", "data-parallel degree")
ENERGY_ = _metric("energy", ENERGY, "board power of the GPUs in use")

SERVE = (
    *REQUEST,
    _metric("goodput", RATE, "requests per second that meet the latency rules, at most the arrivals"),
    RATE_,
    COST_,
    _of("attainment", ("deadline",), SHARE, "share of requests that meet a deadline"),
    ENERGY_,
    DEVICES,
    _decision("replicas", "copies of the model"),
    _decision("kinds", "kinds of GPU within a replica"),
    _metric("spare", SHARE, "share of the capacity that the served requests leave free"),
    TP,
    PP,
)

CASCADE = (
    LATENCY,
    TTFT,
    TPOT,
    _distribution("quality", SHARE, "share of answers that are right"),
    RATE_,
    _metric("goodput", RATE, "requests per second that meet the latency rules"),
    COST_,
    ENERGY_,
    DEVICES,
)

AGENTIC = (
    LATENCY,
    _of("attainment", ("deadline",), SHARE, "share of requests that meet their deadline"),
    RATE_,
    _metric("goodput", RATE, "workflows per second that meet their deadline"),
    COST_,
    ENERGY_,
    DEVICES,
)

RL = (
    _of("tokens_per_second", ("rollout", "reward", "train"), THROUGHPUT, "tokens per second of a stage"),
    _distribution("staleness", NUMBER, "policy versions between a sample and the update that uses it"),
    _metric("step_time", SECONDS, "time of one policy update"),
    RATE_,
    COST_,
    ENERGY_,
    DEVICES,
    _decision("replicas", "rollout replicas"),
    TP,
    PP,
    DP,
    _decision("zero", "ZeRO stage", WHOLE),
)

PRETRAIN = (
    _metric("step_time", SECONDS, "time of one optimizer step"),
    _metric("mfu", SHARE, "model FLOPs utilisation"),
    _metric("spread", NUMBER, "minipods touched by a communication group, weighted by `affinity`"),
    RATE_,
    COST_,
    ENERGY_,
    DEVICES,
    TP,
    PP,
    DP,
    _decision("cp", "context-parallel degree"),
    _decision("ep", "expert-parallel degree"),
    _decision("zero", "ZeRO stage", WHOLE),
    _decision("micro_batch", "sequences in one micro-batch"),
)
