"""What an engine adds to the roofline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hexdsl.costs.efficiency import Provenance


@dataclass(frozen=True, slots=True)
class Overheads:
    """What an engine adds to the roofline, in seconds: per layer and step, per request and step, per prompt.

    Fitted by non-negative least squares on relative error to the 400 serving points of Llama-3.1-8B and -70B on H100
    and H200 that are shipped with aiconfigurator-core 0.12.0 and have a steady load; the three TTFT figures are from
    its vLLM rows.  Every other term is a measured share of the peak (the memory share of H100 and H200 is from the same
    points).  Fitted without a model, a GPU or an engine and tested on that, the formula errs by 9 to 11 %
    on average.
    """

    layer_s: float = 35e-6
    request_s: float = 23e-6
    first_token_s: float = 0.034
    wait_steps: float = 0.6
    """Share of a running step that a new prompt waits for."""
    burst: float = 0.06
    """Prompts ahead of a new one in a closed loop, per running request."""
    provenance: Provenance = "measured"


DEFAULT_OVERHEADS = Overheads()
