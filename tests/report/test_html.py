"""The HTML page: well-formed, self-contained, escaped, and complete."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from hexdsl.ir.plan import Plan, Route
from hexdsl.ir.spec.cluster import Link
from hexdsl.report.drawing import MOST_DRAWN, drawing
from hexdsl.report.html import plan_html, range_chart

VOID = {"meta", "br", "link", "img", "input", "hr"}
LOADS = re.compile(r"https?:|//[a-z]|url\(|<script|<link|<img|<iframe|@import|\bsrc=|\bon\w+=", re.IGNORECASE)


class Page(HTMLParser):
    """Checks the balance of tags, and collects text, tags and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("name", ["mixed", "quickstart"])
def test_the_page_is_well_formed_and_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    text = plan_html(request.getfixturevalue(name))
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert not LOADS.search(text)
    assert text == plan_html(request.getfixturevalue(name))


def test_the_page_says_what_the_plan_says(mixed: Plan) -> None:
    words = " ".join(" ".join(Page(plan_html(mixed)).words).split())
    held = [s for r in mixed.replicas for s in r.stages]
    expected = [
        *(f"layers {s.layers[0]}..{s.layers[1] - 1}" for s in held),
        *(m.id for m in mixed.machines),
        *(r.text for r in mixed.rules),
        *(d.reason for d in mixed.decisions),
        *(t.name for p in mixed.predictions for t in p.terms),
        *mixed.verified,
        *mixed.notes,
        "180ms to 410ms",
        "$30.20/h",
        "utilization = 90%",
        "200Gb/s",
        mixed.spec_digest,
        mixed.digest(),
        "not simulated",
    ]
    assert [text for text in expected if text not in words] == []
    assert "310ms" not in words


def test_names_are_escaped_everywhere(mixed: Plan) -> None:
    evil = "</style></title><script>alert(1)</script>\"'&\x07"
    replica = mixed.replicas[0].with_(name=evil, stages=(mixed.replicas[0].stages[0].with_(gpu=evil),))
    machines = tuple(m.with_(id=evil if i == 0 else m.id, host=evil) for i, m in enumerate(mixed.machines))
    plan = mixed.with_(
        name=evil,
        spec_digest=evil,
        notes=(evil,),
        verified=(evil,),
        replicas=(replica,),
        machines=machines,
        decisions=tuple(d.with_(what=evil, reason=evil) for d in mixed.decisions),
        rules=tuple(r.with_(text=evil) for r in mixed.rules),
        predictions=tuple(p.with_(metric=evil) for p in mixed.predictions),
        certificates=tuple(c.with_(goal=evil, method=evil) for c in mixed.certificates),
        defaults=tuple(d.with_(pin=evil) for d in mixed.defaults),
    )
    text = plan_html(plan)
    assert "<script" not in text
    assert text.count("</style>") == 1
    assert "\x07" not in text
    assert Page(text).open == []


def test_every_table_has_a_caption_and_headers(mixed: Plan) -> None:
    tags = Page(plan_html(mixed)).tags
    assert tags.count("table") == tags.count("caption") > 0
    assert tags.count("th") >= 2 * tags.count("table")
    assert tags.count("svg") <= tags.count("title") - 1


def test_every_gpu_is_drawn_once_inside_the_drawing(mixed: Plan) -> None:
    drawn = drawing(mixed)
    cells = [cell for band in drawn.bands for box in band.boxes for cell in box.cells]
    assert len(cells) == 16
    assert len({(c.x, c.y) for c in cells}) == 16
    assert all(c.x + c.size <= drawn.width and c.y + c.size <= drawn.height for c in cells)
    assert sum(not c.holder for c in cells) == 2
    assert [w.label for w in drawn.wires] == ["200Gb/s, 20us"]


def test_links_that_skip_a_group_run_beside_it(mixed: Plan) -> None:
    last = mixed.machines[2].with_(group="far")
    links = (*mixed.workflow.on.links, Link(left="big", right="far", bandwidth=1e9))
    workflow = mixed.workflow.with_(on=mixed.workflow.on.with_(links=links))
    wires = drawing(mixed.with_(machines=(*mixed.machines[:2], last), workflow=workflow)).wires
    assert [w.turned for w in wires] == [False, True]


def test_large_clusters_are_drawn_small_and_cut_short(mixed: Plan) -> None:
    machines = tuple(mixed.machines[1].with_(id=f"middle-{i}", devices=()) for i in range(100))
    used = tuple(m.with_(devices=mixed.machines[1].devices) if m.id == "middle-90" else m for m in machines)
    (band,) = drawing(mixed.with_(machines=used)).bands
    assert len(band.boxes) == MOST_DRAWN
    assert band.left_out == 100 - MOST_DRAWN
    assert any(c.holder for box in band.boxes for c in box.cells)


def test_the_chart_of_a_prediction_keeps_its_order(mixed: Plan) -> None:
    chart = range_chart(mixed.predictions[1], mixed)
    assert chart.value is not None
    assert 0 < chart.low < chart.value < chart.high < 100
    assert chart.limit == chart.value
    assert range_chart(mixed.predictions[0], mixed).value is None


def test_a_page_of_a_plan_without_replicas(mixed: Plan) -> None:
    plan = Plan(hexc_version="0", spec_digest="0", name="empty", workflow=mixed.workflow)
    assert Page(plan_html(plan)).open == []


def test_many_replicas_share_an_entry(mixed: Plan) -> None:
    many = tuple(mixed.replicas[0].with_(name=f"r{i}") for i in range(20))
    plan = mixed.with_(replicas=many, routes=tuple(Route(replica=r.name, weight=1) for r in many))
    assert "r0 to r19" in plan_html(plan)
