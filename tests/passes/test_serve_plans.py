"""Golden plans: what each shipped serving spec comes to, without the figures that hang on the last digits."""

from __future__ import annotations

from pathlib import Path

import pytest
from serve_cases import planned

from hexdsl.api import load
from hexdsl.ir.plan import Plan, Replica

SPECS = Path(__file__).parents[2] / "specs" / "serve"
PLANS = Path(__file__).parents[1] / "plans"


def summary(plan: Plan) -> str:
    """The objective with its bound, replicas' shapes, rules and notes: one a line."""
    found = plan.certificates[0]
    proof = "optimal" if found.exact else f"bound {found.bound:.4g}, gap {found.gap:.1%}"
    return "\n".join(
        (
            f"{found.goal}: {found.objective:.4g} ({proof})",
            f"cost {plan.cost_usd_per_h:.4g} $/h, context {plan.context} tokens",
            *(f"{_replica(r)}: {r.rate_req_per_s / plan.served_req_per_s:.3g} of the requests" for r in plan.replicas),
            *(f"{h.source} -> {h.target}: {h.weight:.3g}, {h.bits} bits" for h in plan.handovers),
            *(
                f"rule {r.text}: {'holds' if r.holds else 'broken'}{' (binding)' if r.binding else ''}"
                for r in plan.rules
            ),
            *(f"note {n}" for n in plan.notes),
            "",
        )
    )


def _replica(replica: Replica) -> str:
    stages = (f"{b - a} layers on {s.tp} {s.gpu} of {s.machine}" for s in replica.stages for a, b in [s.layers])
    role = "" if replica.role == "both" else f"{replica.role}, "
    return f"{replica.name}: {', '.join(stages)}; {role}up to {replica.max_batch} together"


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.hex")), ids=lambda p: p.stem)
def test_plan(path: Path, golden: object) -> None:
    golden(PLANS / f"{path.stem}.txt", summary(planned(load(path).spec)))  # type: ignore[operator]
