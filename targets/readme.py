"""The README of a bundle: how to run it, what is where, what to expect and why."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan, Prediction
from hexdsl.ir.spec.serve import Serve
from hexdsl.targets.devices import layers_of
from hexdsl.targets.templating import Raw, render_markdown

TEMPLATE = Path(__file__).parent / "templates" / "README.md.j2"


def readme(plan: Plan, launch: Launch) -> str:
    """The page as Markdown."""
    curl = _curl(plan.workflow, launch) if isinstance(plan.workflow, Serve) else None
    words = {"figure": figure, "number": number, "size": size, "layers_of": layers_of}
    return render_markdown(TEMPLATE, plan=plan, launch=launch, curl=curl, **words)


def figure(prediction: Prediction) -> str:
    """`0.31 s (0.25 to 0.4)`."""
    return f"{number(prediction.value)} {prediction.unit} ({number(prediction.low)} to {number(prediction.high)})"


def number(value: float) -> str:
    """Three significant digits, without an exponent where people would write none."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def size(count: int) -> str:
    """Bytes in GB or MB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _curl(serve: Serve, launch: Launch) -> Raw:
    question = {"model": serve.model.name, "messages": [{"role": "user", "content": "What is a GPU?"}]}
    url = shlex.quote(f"{launch.endpoint}/v1/chat/completions")
    return Raw(f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(question))}")
