"""`Launch`: the process table that an engine makes of a plan, and that a launcher turns into files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir


class Port(Ir):
    """A TCP port that a process listens on."""

    host: str
    port: int = Field(ge=1, le=65535)
    use: str


class Ready(Ir):
    """How to see that a process is ready: an HTTP address that answers 200, or nothing."""

    url: str = ""
    timeout_s: int = Field(600, ge=1)


class Process(Ir):
    """One process on one host."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    role: Literal["router", "worker", "trainer", "rollout", "reward", "controller"]
    host: str
    gpus: tuple[int, ...] = Field((), description="indices of the GPUs within the machine; empty on a CPU")
    rank: int = 0
    argv: tuple[str, ...] = Field(description="the command; `python` at its head stands for the host's interpreter")
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[Port, ...] = ()
    ready: Ready | None = None
    after: tuple[str, ...] = Field((), description="processes that must be ready first")
    group: str = Field("", description="processes that live and die together, such as the ranks of a replica")
    restarts: int = Field(0, description="how often its group is started again")
    comment: str = Field("", description="the plan's reason, for the reader of the script")


class File(Ir):
    """A file of the bundle."""

    path: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")
    text: str
    executable: bool = False


class Check(Ir):
    """Something that must be so before the first process starts: a path that exists, or code that ends with 0."""

    kind: Literal["folder", "file", "python"]
    value: str
    message: str


class Launch(Ir):
    """The process table and files of one bundle."""

    format_version: str = "1.0"
    name: str
    engine: str
    launcher: str
    endpoint: str = Field("", description="the address that clients use")
    processes: tuple[Process, ...]
    files: tuple[File, ...] = ()
    checks: tuple[Check, ...] = ()
    reasons: tuple[str, ...] = Field((), description="why the plan is as it is, for the reader of the script")
