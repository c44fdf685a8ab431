"""`gpu`: a kind of accelerator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Bandwidth, Bytes, Count, FlopRate, GpuPrice, Watts
from hexdsl.ir.spec.profile import Profile, ProfileFile, contradiction

FORMATS = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")
"""The number formats in which a GPU may have a compute rate."""


class Gpu(Ir):
    """A kind of accelerator.  Compute rates are dense, as the datasheet gives them without sparsity."""

    KIND: ClassVar[str] = "gpu"

    name: str
    memory: Bytes = Field(description="nominal memory of one GPU")
    usable: Bytes | None = Field(None, description="memory that the driver leaves, where it is less than nominal")
    reserve: Bytes = Field(
        2e9,
        description="memory kept free for the runtime: context, graphs and workspace",
        json_schema_extra={"example": "2GB"},
    )
    bandwidth: Bandwidth = Field(description="memory bandwidth of one GPU")
    fp32: FlopRate | None = Field(None, description="dense fp32 compute rate")
    bf16: FlopRate | None = Field(None, description="dense bf16 compute rate")
    fp16: FlopRate | None = Field(None, description="dense fp16 compute rate; where left out, that of bf16")
    fp8: FlopRate | None = Field(None, description="dense fp8 compute rate; left out where there is no support")
    int8: FlopRate | None = Field(None, description="dense int8 compute rate; left out where there is no support")
    fp4: FlopRate | None = Field(None, description="dense fp4 compute rate; left out where there is no support")
    link: Bandwidth | None = Field(None, description="GPU-to-GPU link inside a node, both directions together")
    price: GpuPrice | None = Field(None, description="price of one GPU for an hour; `nodes` may override it")
    like: str | None = Field(
        default=None, description="catalogued GPU whose shipped measurements apply; left out: the block's base"
    )
    power: Watts | None = Field(None, description="board power")
    sm: Count | None = Field(None, description="CUDA compute capability times ten, such as 90")
    profile: ProfileFile | None = Field(None, description="file of a measured profile of this GPU (`hexc profile`)")
    source: str | None = Field(None, description="where the figures come from, with the date")

    @field_validator("profile")
    @classmethod
    def _of_this_gpu(cls, profile: Profile | None, info: ValidationInfo) -> Profile | None:
        reason = contradiction(profile, info.data) if profile else None
        if reason is not None:
            context = {
                "reason": reason,
                "help": "measure this GPU with `hexc profile`, or name the profile of its kind",
            }
            raise PydanticCustomError("file", "this profile is of another GPU: {reason}", context)
        return profile
