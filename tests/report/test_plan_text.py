"""The text view: golden for two plans, and what must hold for any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.ir.plan import Plan, Route
from hexdsl.report import figures as say
from hexdsl.report.text import plan_text

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["mixed", "quickstart"])
@pytest.mark.parametrize("width", [None, 80, 120])
def test_the_text_of_a_plan(
    name: str, width: int | None, request: pytest.FixtureRequest, golden: Callable[[Path, str], None]
) -> None:
    plan = request.getfixturevalue(name)
    text = plan_text(plan, width)
    assert plan.digest() in text
    golden(GOLDEN / f"{name}-{width or 'pipe'}.txt", text.replace(plan.digest(), "(its digest)"))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(mixed: Plan, width: int) -> None:
    assert max(map(len, plan_text(mixed, width).splitlines())) <= width


def test_colour_only_adds_escapes(mixed: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    plain = plan_text(mixed, 100)
    assert "\x1b" not in plain
    colored = plan_text(mixed, 100, color=True)
    assert "\x1b[" in colored
    assert len(colored) > len(plain)


def test_ttft_is_never_one_number(mixed: Plan) -> None:
    lines = [line for line in plan_text(mixed, 120).splitlines() if "p95(ttft)" in line and "reason" not in line]
    assert all("180ms to 410ms" in line for line in lines[:2])
    assert "310ms" not in plan_text(mixed, 120)


def test_control_characters_of_a_spec_do_not_reach_the_terminal(mixed: Plan) -> None:
    assert "\x1b" not in plan_text(mixed.with_(notes=("\x1b[2J\u202ehidden",)), 80)


def test_markup_of_rich_is_plain_text_in_a_note(mixed: Plan) -> None:
    assert "[red]note[/red] :smile:" in plan_text(mixed.with_(notes=("[red]note[/red] :smile:",)), 80)


def test_many_replicas_of_one_shape_share_a_row(mixed: Plan) -> None:
    many = tuple(mixed.replicas[0].with_(name=f"r{i}") for i in range(20))
    plan = mixed.with_(replicas=many, routes=tuple(Route(replica=r.name, weight=1) for r in many))
    text = plan_text(plan, 120)
    assert "r0 to r19" in text
    assert "100%" in text


def test_an_empty_plan_has_a_headline(mixed: Plan) -> None:
    empty = Plan(hexc_version="0", spec_digest="0", name="empty", workflow=mixed.workflow)
    assert plan_text(empty, 80).startswith("empty: llama70b on cloud\n0 replicas on 0 of 0 GPUs")


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (("a-0:0", "a-0:1", "a-0:3"), "a-0:0-1,3"),
        (("a-0:9", "a-0:10"), "a-0:9-10"),
        (("a-0:1", "b-0:0"), "a-0:1 b-0:0"),
        (("plain",), "plain"),
        ((), ""),
    ],
)
def test_device_ranges(devices: tuple[str, ...], text: str) -> None:
    assert say.device_ranges(devices) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.05, "s", "50ms"),
        (30.2, "usd/h", "$30.20/h"),
        (30.2 / 3600, "usd/s", "$30.20/h"),
        (12, "req/s", "12req/s"),
        (0.95, "", "0.95"),
        (91.5, "%", "91.5%"),
        (80e9, "B", "80GB"),
        (3, "furlongs", "3 furlongs"),
    ],
)
def test_amounts(value: float, unit: str, text: str) -> None:
    assert say.amount(value, unit) == text
