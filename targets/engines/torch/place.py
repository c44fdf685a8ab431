"""Where a replica runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hexdsl.ir.plan import Replica


@dataclass(frozen=True, slots=True)
class Place:
    """A replica's name in the bundle, the host and ports of its rank 0, and the kind of device."""

    name: str
    replica: Replica
    host: str
    port: int
    meeting_port: int
    device: Literal["cpu", "cuda"]

    @property
    def config(self) -> str:
        return f"config/{self.name}.json"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"
