"""The views of a frontier: its table, and its page with a plot for each two axes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from hexdsl.ir.front import Axis, Front, FrontPoint, alike, dominates
from hexdsl.report.front import front_html, front_text, proof
from hexdsl.report.scatter import FLOOR, LEFT, TOP, WIDTH, scatters, shaded

COST = Axis(name="cost", sense="minimize", unit="usd/h")
RATE = Axis(name="throughput", sense="maximize", unit="tok/s")
WAIT = Axis(name="p95(tpot)", sense="minimize", unit="s")
AXES = (COST, RATE, WAIT)


def point(lines: tuple[str, ...], values: tuple[float, ...], optimised: str, bound: float | None) -> FrontPoint:
    return FrontPoint(
        lines=lines, values=values, simulated=(None, None, values[2] * 0.9), optimised=optimised, bound=bound, gpus=8,
        replicas=("2 x 4 H100 TP 4",), plan="0123456789ab",
    )  # fmt: skip


@pytest.fixture
def front() -> Front:
    points = (
        point(("minimize cost",), (8.7, 1720, 0.05), "cost", 8.7),
        point(("cost <= $12.00/h", "minimize p95(tpot)"), (11.6, 1017, 0.02), "p95(tpot)", 0.01),
        point(("maximize throughput",), (45.6, 8035, 0.9), "throughput", None),
    )
    return Front(
        hexc_version="0.1.0", spec_digest="4b1d0c5e9a72", name="a <b> & c", axes=AXES, points=points, searches=10,
        notes=("left out: <i>",),
    )  # fmt: skip


def test_one_plan_dominates_another_where_it_is_nowhere_worse_and_somewhere_better() -> None:
    assert dominates(AXES, (8, 100, 0.1), (9, 100, 0.1))
    assert dominates(AXES, (8, 101, 0.1), (8, 100, 0.1))
    assert not dominates(AXES, (8, 100, 0.2), (9, 100, 0.1))
    assert not dominates(AXES, (8, 100, 0.1), (8 * (1 + 1e-9), 100, 0.1))
    assert alike(AXES, (8, 100, 0.1), (8 * (1 + 1e-9), 100, 0.1))


def test_the_text_has_each_plan_its_lines_and_what_is_proved(front: Front) -> None:
    text = front_text(front)
    assert "3 plans of which none is better in all of cost, throughput and p95(tpot)" in text
    assert re.search(r"2 +\$11\.60/h +1020tok/s +20ms \(18ms\) +8 +2 x 4 H100 TP 4", text)
    assert "cost <= $12.00/h" in text
    assert max(map(len, front_text(front, 60).splitlines())) <= 60


def test_what_is_proved_is_said(front: Front) -> None:
    found = [proof(front, p) for p in front.points]
    assert found == ["cost, proved", "p95(tpot), gap 50%: no plan under 10ms", "throughput, no bound is known"]


class Page(HTMLParser):
    """Checks that tags are balanced, and counts them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "br":
            assert self.open.pop() == tag


def test_the_page_is_well_formed_escaped_and_has_a_dot_for_each_plan_in_each_plot(front: Front) -> None:
    text = front_html(front)
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 3
    assert page.tags.count("circle") == 9
    assert "a &lt;b&gt; &amp; c" in text
    assert "<i>" not in text
    assert not re.search(r"https?:|<script|<link|<img|@import|\bsrc=", text)


def test_dots_lie_in_the_plot_with_better_values_on_their_side(front: Front) -> None:
    for plot in scatters(front):
        assert all(LEFT <= dot.x <= WIDTH and TOP - 1e-9 <= dot.y <= FLOOR for dot in plot.dots)
    by_cost = next(scatters(front))
    assert [d.x for d in by_cost.dots] == sorted(d.x for d in by_cost.dots)
    assert by_cost.dots[2].y < by_cost.dots[1].y  # the screen's y grows downwards, and throughput upwards


def test_shades_go_from_the_best_to_the_worst() -> None:
    assert shaded((1.0, 2.0, 3.0), COST)[0] == (0, 2, 4)
    assert shaded((1.0, 2.0, 3.0), RATE)[0] == (4, 2, 0)
    assert shaded((2.0, 2.0), COST)[0] == (0, 0)


def test_a_frontier_of_one_plan_is_drawn_too(front: Front) -> None:
    one = front.with_(points=front.points[:1])
    assert "one plan is best in all of cost, throughput and p95(tpot)" in front_text(one)
    assert Page(front_html(one)).tags.count("circle") == 3
