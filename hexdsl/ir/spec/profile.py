"""`profile = "FILE"` of a `gpu`: what was measured on the GPU, and what was fitted to measured serving runs."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.spec.model import FormatWord

Positive = Annotated[float, Field(gt=0, le=1e300)]
Size = Annotated[int, Field(gt=0, le=2**53)]

SLOWEST, FASTEST = 0.6, 1.1
"""Measured memory bandwidth over that of the `gpu` block: outside these it is another GPU.  Large copies and reads
reach 70 to 95 % of the datasheet on all measured kinds."""

TOO_FAST = 1.2
"""Measured product rates over the peak of the block: beyond this it is another GPU, or a sparse peak."""

FAMILY = re.compile(
    r"(?<![a-z0-9])(?:gb200|gb300|gh200|[abhv][0-9]{2,3}|[lt]4|l40s?|a10g|mi[0-9]{3}x?|[2-5]0[6-9]0)(?![0-9])"
)
"""Names of kinds of GPU, by which a profile and a block can contradict each other."""


class Gemm(Ir):
    """Large matrix products in one format: FLOP/s by number of rows m (tokens of a step)."""

    m: tuple[Size, ...] = Field(min_length=1)
    flop_per_s: tuple[Positive, ...]

    @model_validator(mode="after")
    def _curve(self) -> Self:
        _check_curve(self.m, self.flop_per_s)
        return self


class Attention(Ir):
    """Causal prefill attention of one prompt: FLOP/s by its tokens, counting only the causal half."""

    tokens: tuple[Size, ...] = Field(min_length=1)
    flop_per_s: tuple[Positive, ...]

    @model_validator(mode="after")
    def _curve(self) -> Self:
        _check_curve(self.tokens, self.flop_per_s)
        return self


class AllReduce(Ir):
    """All-reduce in one machine by number of GPUs: seconds of start-up, and bus bandwidth (2(n-1)/n of the bytes)."""

    gpus: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = Field(min_length=1)
    start_s: tuple[Annotated[float, Field(ge=0, le=1e300)], ...]
    bus_bytes_per_s: tuple[Positive, ...]

    @model_validator(mode="after")
    def _curve(self) -> Self:
        _check_curve(self.gpus, self.start_s)
        _check_curve(self.gpus, self.bus_bytes_per_s)
        return self


class Transfer(Ir):
    """Point-to-point transfer between two processes of one machine."""

    start_s: Annotated[float, Field(ge=0, le=1e300)]
    bytes_per_s: Positive


class Errors(Ir):
    """Errors of predictions against measured rows, in percent; bias is the median signed error."""

    rows: int
    mape: float
    median: float
    bias: float
    within_20: float


class Validation(Ir):
    """Errors of a metric on rows that were left out of the fit: without it, and with a fit to the other rows."""

    metric: Literal["tpot", "ttft"]
    left_out: str = Field(description="what was left out in turn")
    before: Errors
    after: Errors


class Calibration(Ir):
    """Coefficients fitted to measured serving runs.

    `factors` multiply times of the cost model: 1.1 is ten percent slower than the efficiencies say.
    """

    source: str
    rows: Size
    factors: dict[Literal["weights", "compute", "kv", "network"], Positive] = Field({}, max_length=4)
    layer_s: float = Field(ge=0, le=10, description="seconds that each layer adds to a step")
    request_s: float = Field(ge=0, le=10, description="seconds that each running request adds to a step")
    first_token_s: float = Field(ge=0, le=1000, description="seconds that a prompt waits before it starts")
    wait_steps: float = Field(ge=0, le=1000, description="share of a running step that a new prompt waits for")
    burst: float = Field(ge=0, le=1000, description="prompts ahead of a new one, per running request")
    undetermined: tuple[str, ...] = Field((), description="terms that the rows could not determine: left as they were")
    limited: tuple[str, ...] = Field((), description="terms that the rows would push beyond what is possible")
    validation: tuple[Validation, ...] = ()


class Profile(Ir):
    """A measured profile of a GPU.  Every part may be left out; what is not there is taken from shipped tables."""

    FORM: ClassVar[str] = 'a file, such as `file("NAME")`'

    format_version: Literal["1.0"]
    gpu: str = Field(min_length=1, max_length=200, description="the device, as its driver calls it")
    source: str = Field("", max_length=1000, description="how and with what it was measured")
    memory_bytes: Positive | None = Field(None, description="memory that the driver reports")
    gemm: dict[FormatWord, Gemm] = Field({}, description="matrix products by number format")
    weights_bytes_per_s: Positive | None = Field(
        None, description="bandwidth of reading weights in products of few rows"
    )
    kv_bytes_per_s: Positive | None = Field(None, description="bandwidth of reading the KV cache in decode attention")
    copy_bytes_per_s: Positive | None = Field(None, description="bandwidth of large copies, bytes read and written")
    attention: Attention | None = None
    all_reduce: AllReduce | None = None
    p2p: Transfer | None = None
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        parts = (self.weights_bytes_per_s, self.kv_bytes_per_s, self.attention, self.all_reduce, self.calibration)
        if not self.gemm and all(part is None for part in parts):
            raise PydanticCustomError("file", "the profile holds no measurement")
        return self

    @property
    def read_rates(self) -> tuple[float, ...]:
        """Measured memory bandwidths, bytes/s."""
        found = (self.weights_bytes_per_s, self.kv_bytes_per_s, self.copy_bytes_per_s)
        return tuple(rate for rate in found if rate is not None)


def read_profile(data: bytes) -> Profile:
    """The profile in a file.  Raises ValueError with one sentence where it is none."""
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("this is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} in line {error.lineno}") from None
    except RecursionError:
        raise ValueError("this is not a profile: it is nested too deep") from None
    try:
        return Profile.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"`{place}`: {first['msg'].lower()}" if place else first["msg"]) from None


def contradiction(profile: Profile, gpu: dict[str, Any]) -> str | None:
    """Why a profile cannot be that of a GPU with these fields; None where nothing speaks against it."""
    ours, theirs = (set(FAMILY.findall(name.lower().replace("_", " "))) for name in (gpu.get("name", ""), profile.gpu))
    if ours and theirs and not ours & theirs:
        return f"it is the profile of `{profile.gpu}`"
    memory, bandwidth = gpu.get("memory"), gpu.get("bandwidth")
    if memory and profile.memory_bytes and not 0.8 <= profile.memory_bytes / memory <= 1.25:
        return f"its GPU has {profile.memory_bytes / 1e9:.3g}GB of memory, this one {memory / 1e9:.3g}GB"
    best = max(profile.read_rates, default=None)
    if best and bandwidth and not SLOWEST <= best / bandwidth <= FASTEST:
        return f"its GPU reads memory at {best / 1e9:.4g}GB/s, this one has {bandwidth / 1e9:.4g}GB/s"
    for name, curve in sorted(profile.gemm.items()):
        peak, found = gpu.get(name), max(curve.flop_per_s)
        if peak and found > TOO_FAST * peak:
            return f"its GPU multiplies {name} at {found / 1e12:.4g}TFLOP/s, this one has {peak / 1e12:.4g}TFLOP/s"
    return None


def _check_curve(sizes: tuple[int, ...], rates: tuple[float, ...]) -> None:
    if len(rates) != len(sizes):
        raise PydanticCustomError("file", "the lists of a curve must have one length")
    if any(a >= b for a, b in pairwise(sizes)):
        raise PydanticCustomError("file", "the sizes of a curve must rise")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _read(value: Any) -> Any:
    """The language reads the file; a string that gets here comes from a machine-made spec."""
    if isinstance(value, str):
        raise PydanticCustomError("file", "a machine-made spec holds the profile itself, not the name of its file")
    return value


ProfileFile = Annotated[Profile, BeforeValidator(_read)]
"""`profile = "h100.profile.json"`: the spec then holds what the file says."""
