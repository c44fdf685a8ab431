"""`target`: what is emitted, and how it is launched."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Seconds, Whole
from hexdsl.ir.spec.common import Name
from hexdsl.ir.values import choice

ENGINES = ("torch", "deepspeed", "vllm", "sglang")


class Local(Ir):
    """Every process on this machine."""

    kind: Literal["local"] = "local"


class Ssh(Ir):
    """Processes on the named hosts, by ssh."""

    kind: Literal["ssh"] = "ssh"
    user: str | None = Field(None, pattern=r"^[a-z_][a-z0-9_-]*$", description="user on the hosts")


class Slurm(Ir):
    """A Slurm job."""

    kind: Literal["slurm"] = "slurm"
    partition: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="Slurm partition")
    account: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="Slurm account")
    time: Seconds | None = Field(None, description="time limit of the job")


class Kubernetes(Ir):
    """Manifests for a Kubernetes cluster."""

    kind: Literal["kubernetes"] = "kubernetes"
    namespace: str | None = Field(None, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="namespace")
    image: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", description="container image")


Launcher = Annotated[
    Local | Ssh | Slurm | Kubernetes, Field(discriminator="kind"), choice(Local, Ssh, Slurm, Kubernetes)
]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variables(value: Any) -> Any:
    bad = next((k for k in value if not _VARIABLE.fullmatch(k)), None) if isinstance(value, dict) else None
    if bad is not None:
        help_ = "letters, digits and `_`, such as `OMP_NUM_THREADS`"
        raise PydanticCustomError("name", "`{text}` is not a variable's name", {"text": bad[:60], "help": help_})
    return value


class Target(Ir):
    """What is emitted for a workflow, and how it is launched."""

    name: Name = Field(description="engine: torch, deepspeed, vllm or sglang")
    launcher: Launcher = Field(Local.model_construct(), description="how processes are started")
    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9.:-]+$", description="address on which servers listen")
    ports: Count = Field(18100, ge=1024, le=65000, description="first of the ports that servers use")
    checkpoint: Seconds | None = Field(None, description="time between checkpoints")
    env: Annotated[dict[str, str], BeforeValidator(_variables)] = Field(
        {}, description="environment variables of the processes"
    )
    restarts: Whole = Field(0, le=100, description="how often a replica that died is started again")
    max_queue: Count = Field(64, description="waiting requests per replica before clients are told to come back (429)")
