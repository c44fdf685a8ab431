"""Where no plan exists, the lines named are a smallest conflict, and the limits offered are attainable."""

from __future__ import annotations

import random
import re
from itertools import combinations

import pytest
from serve_cases import Case, planned

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.lang.diagnostics import render

SPEC = """
gpu big {{ memory = 300MB, reserve = 10MB, bandwidth = 400GB/s, bf16 = 40TFLOP/s, price = $1/gpu/h, power = 300W }}
gpu low {{ memory = 220MB, reserve = 10MB, bandwidth = 200GB/s, bf16 = 20TFLOP/s, price = $0.4/gpu/h, power = 100W }}
cluster c {{
  nodes a {{ gpus = 2 * big }}
  nodes b {{ count = 2, gpus = 1 * low, nic = 10Gb/s }}
  a <-> b {{ bandwidth = 10Gb/s }}
}}
model m {{ layers = 5, hidden = 1024, heads = 8, kv_heads = 4, ffn = 4096, vocab = 4_000, weights = fp16 }}
workload w {{ {arrivals}prompt = 200tok, output = 40tok }}
serve s {{
  model = m, on = c, workload = w, max_batch = 8
  {lines}
}}
"""


def spec(*lines: str, arrivals: str = "arrivals = poisson(30req/s), ") -> str:
    return SPEC.format(arrivals=arrivals, lines="\n  ".join(lines))


def refusal(text: str) -> Diagnostic | None:
    """The message where there is no plan, None where there is one."""
    try:
        planned(load_text(text, "case.hex").spec)
    except NoPlanError as error:
        return error.diagnostics[0]
    return None


def shown(text: str) -> str:
    loaded = load_text(text, "serve.hex")
    try:
        planned(loaded.spec)
    except NoPlanError as error:
        return render(error.diagnostics, loaded.sources)
    return ""


def test_two_lines_in_conflict_read_well() -> None:
    found = shown(spec("goodput >= 160req/s", "cost <= $1/h", "tp <= 2", arrivals="arrivals = poisson(180req/s), "))
    assert found.splitlines()[0] == "error[P001]: no plan meets these 2 lines together"
    assert "goodput >= 160req/s\n" in found
    assert "tp <= 2" not in found
    help_ = next(line for line in found.splitlines() if "= help:" in line)
    assert re.search(r"= help: `cost <= \$1/h` allows `goodput` of at most \d+req/s here; ", help_)
    assert re.search(r"; `goodput >= 160req/s` needs `cost` of at least \$\d\.\d\d/h here$", help_)


POOL = (
    "goodput >= {a}req/s", "cost <= ${b:.2f}/h", "tp == {t}", "pp == {p}", "devices <= {d}", "replicas >= {r}",
    "p95(tpot) <= {m}ms", "p95(ttft) <= {f}ms", "energy <= {e}W", "${b:.2f}/h >= cost",
)  # fmt: skip


def random_lines(seed: int) -> list[str]:
    rng = random.Random(seed)
    numbers = {
        "a": rng.choice([10, 40, 90, 200]), "b": rng.choice([0.3, 0.9, 1.5, 2.5]), "t": rng.randint(1, 2),
        "p": rng.randint(1, 3), "d": rng.randint(1, 4),
        "r": rng.randint(1, 4), "m": rng.choice([1, 2, 4, 8]), "f": rng.choice([90, 120, 200]),
        "e": rng.choice([100, 300, 500]),
    }  # fmt: skip
    return [line.format(**numbers) for line in rng.sample(POOL, rng.randint(2, 4))]


def conflicts() -> list[list[str]]:
    found = ([*random_lines(seed), "maximize goodput"] for seed in range(60))
    return [
        lines
        for lines in found
        if (r := refusal(spec(*lines, arrivals="arrivals = poisson(300req/s), "))) and r.code == "P001"
    ]


CONFLICTS = conflicts()


def test_there_are_conflicts_to_look_at() -> None:
    assert len(CONFLICTS) >= 20


@pytest.mark.parametrize("lines", CONFLICTS, ids=" & ".join)
def test_the_lines_named_are_a_smallest_conflict(lines: list[str]) -> None:
    """They conflict by themselves, and no fewer of them do."""
    arrivals = "arrivals = poisson(300req/s), "
    *rules, goal = lines
    message = refusal(spec(*lines, arrivals=arrivals))
    assert message is not None
    text = spec(*lines, arrivals=arrivals)
    named = [line for line in rules if any(text[label.span.start : label.span.end] == line for label in message.labels)]
    assert len(named) == len(message.labels) > 0
    assert refusal(spec(*named, goal, arrivals=arrivals)) is not None
    for fewer in combinations(named, len(named) - 1):
        assert refusal(spec(*fewer, goal, arrivals=arrivals)) is None


OFFER = re.compile(
    r"`(?:(?P<other>[^`]+)` (?:needs|allows) `)?(?P<metric>[^`]+)` (?:of|is) at (?P<side>least|most) (?P<limit>[^ ;,]+)"
)


@pytest.mark.parametrize("lines", CONFLICTS, ids=" & ".join)
def test_every_limit_offered_is_attainable(lines: list[str]) -> None:
    """The rule of that metric, written with the limit offered, gives a plan."""
    arrivals = "arrivals = poisson(300req/s), "
    message = refusal(spec(*lines, arrivals=arrivals))
    assert message is not None
    offers = list(OFFER.finditer(message.help or ""))
    for offer in offers:
        op = "<=" if offer["side"] == "least" else ">="
        old = next(line for line in lines if _metric(line) == offer["metric"])
        new = f"{offer['metric']} {op} {offer['limit']}"
        assert refusal(spec(*(new if line == old else line for line in lines), arrivals=arrivals)) is None, (
            lines,
            message.help,
        )


def _metric(line: str) -> str:
    left, _, right = re.split(r" (<=|>=|==) ", line) if re.search("[<>=]=", line) else (line, "", "")
    return right if left.startswith("$") else left


def test_offers_are_made() -> None:
    """Most conflicts come with a limit that would do."""
    arrivals = "arrivals = poisson(300req/s), "
    helped = [lines for lines in CONFLICTS if (r := refusal(spec(*lines, arrivals=arrivals))) and r.help]
    assert len(helped) >= 0.6 * len(CONFLICTS)


def test_more_arrivals_than_the_machines_serve() -> None:
    message = refusal(spec("minimize cost", arrivals="arrivals = poisson(9000req/s), "))
    assert message is not None
    assert message.code == "P001"
    assert re.match(r"9000req/s arrive, but these machines serve at most \d+req/s", message.message)
    most = re.search(r"at most (\d+)req/s", message.message)
    assert most is not None
    assert refusal(spec("minimize cost", arrivals=f"arrivals = poisson({most[1]}req/s), ")) is None


def test_arrivals_that_cost_too_much() -> None:
    """The load is part of the conflict: it is said, and the rule's nearest limit does."""
    text = spec("cost <= $1.20/h", "minimize devices", arrivals="arrivals = poisson(160req/s), ")
    message = refusal(text)
    assert message is not None
    assert "160req/s arrive" in message.notes[0]
    limit = re.search(r"`cost` is at least (\$[\d.]+/h)", message.help or "")
    assert limit is not None
    assert refusal(text.replace("$1.20/h", limit[1])) is None


@pytest.mark.parametrize(
    "line",
    [
        "tp == 1 or cost <= $3/h", "not cost <= $3/h", "cost != $3/h", "replicas * devices <= 4", "p95(ttft) >= 100ms",
        "not p95(ttft) <= 100ms", "devices in [1, 3]", "p95(ttft) <= 100ms * tp",
    ],
)  # fmt: skip
def test_rules_that_are_not_planned_yet_are_refused_at_their_place(line: str) -> None:
    text = spec(line, "maximize goodput")
    message = refusal(text)
    assert message is not None
    assert message.code == "P004"
    span = message.labels[0].span
    assert text[span.start : span.end] == line


@pytest.mark.parametrize("goal", ["maximize p95(ttft)", "minimize p95(ttft) + p95(tpot)", "maximize goodput / cost"])
def test_objectives_that_are_not_planned_yet_are_refused(goal: str) -> None:
    message = refusal(spec(goal))
    assert message is not None
    assert message.code == "P004"


def test_a_model_that_is_too_large() -> None:
    message = refusal(spec().replace("layers = 5", "layers = 50"))
    assert message is not None
    assert message.code == "P002"
    assert re.search(r"its weights take [\d.]+ GB, and all GPUs together leave [\d.]+ GB", message.message)


def test_a_context_that_does_not_fit_is_not_blamed_on_the_weights() -> None:
    message = refusal(spec("context = 900_000tok"))
    assert message is not None
    assert message.code == "P002"
    assert "900000 tokens" in (message.help or "")


def test_figures_that_are_missing() -> None:
    text = spec("energy <= 900W").replace(", power = 100W", "")
    message = refusal(text)
    assert message is not None
    assert message.code == "P009"
    assert text[message.labels[0].span.start : message.labels[0].span.end] == "energy <= 900W"


@pytest.mark.parametrize("weights", ["fp16", "fp8"])
def test_a_gpu_without_a_rate_for_attention(weights: str) -> None:
    message = refusal(
        spec().replace("bf16 = 20TFLOP/s", "fp8 = 20TFLOP/s").replace("weights = fp16", f"weights = {weights}")
    )
    assert message is not None
    assert message.code == "P002"
    assert "`low` has no compute rate" in message.message


def test_case_is_planned_without_rules() -> None:
    assert Case(spec()).plan().replicas
