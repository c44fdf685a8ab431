"""`pretrain`: one training job."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Share, Tokens
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.common import File
from hexdsl.ir.spec.metrics import PRETRAIN
from hexdsl.ir.spec.model import FormatWord, Model
from hexdsl.ir.spec.rule import MetricInfo, Objective, Rule
from hexdsl.ir.spec.target import Target


class Affinity(Ir):
    """How much the spread of each kind of communication group matters; the shares sum to one."""

    tp: Share = Field(0.0, le=1, description="weight of tensor-parallel groups")
    pp: Share = Field(0.0, le=1, description="weight of pipeline groups")
    dp: Share = Field(0.0, le=1, description="weight of data-parallel groups")
    cp: Share = Field(0.0, le=1, description="weight of context-parallel groups")
    ep: Share = Field(0.0, le=1, description="weight of expert-parallel groups")


class Pretrain(Ir):
    """One training job on one cluster."""

    KIND: ClassVar[str] = "pretrain"
    METRICS: ClassVar[tuple[MetricInfo, ...]] = PRETRAIN

    name: str
    on: Cluster = Field(description="the cluster that may be used")
    model: Model = Field(description="the model that is trained")
    tokens: Tokens | None = Field(None, gt=0, description="tokens to train on in all")
    context: Tokens = Field(gt=0, description="tokens in one sequence")
    batch: Tokens = Field(gt=0, description="tokens in one optimizer step")
    precision: FormatWord = Field("bf16", description="number format of the computation")
    data: File | None = Field(None, description="training data")
    affinity: Affinity | None = Field(
        None, description="weights of the groups in `spread`; left out: by the cost model"
    )
    target: tuple[Target, ...] = Field((), description="what is emitted")
    rules: tuple[Rule, ...] = Field((), description="what must hold")
    objectives: tuple[Objective, ...] = Field((), description="what to make large or small, in order of priority")
