"""What page and text say of a simulation, and where the lines of its charts run."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_html import LOADS, Page

from hexdsl.ir.plan import Plan, Prediction, RuleCheck, Simulated, Simulation
from hexdsl.ir.spec.rule import Compare, Metric, Number
from hexdsl.report.charts import FLOOR, LEFT, RIGHT, TOP, WIDTH, linear, log_ticks, logarithmic, round_steps, step_path
from hexdsl.report.html import plan_html
from hexdsl.report.plots import latency_plots, load_plots
from hexdsl.report.simulation import departures, limits, mood, rules_words, share_within, verdict
from hexdsl.report.text import plan_text, simulation_text


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


def run_of(plan: Plan) -> Simulation:
    assert plan.simulation is not None
    return plan.simulation


def test_the_page_of_a_simulated_plan_says_what_came_of_it(played: Plan) -> None:
    words = words_of(plan_html(played))
    expected = [
        "2 of 3 rules broken",
        "3 runs of 900 requests",
        "91%",
        "88% to 94%",
        "$2.50/Mtok",
        "$0.75",
        "broken by 55%",
        "2% to spare, within the runs' spread",
        "broken by 1.8%",
        "p95 \u2264 400ms",
        "first run, in slices of 20s",
        "at most 64 requests running and 5 queued",
        "KV cache at most 75% full",
        *run_of(played).notes,
    ]
    assert [text for text in expected if text not in words] == []
    assert "ot simulated" not in words


def test_the_page_is_well_formed_and_the_same_twice_and_after_reading_it_back(played: Plan) -> None:
    text = plan_html(played)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert not LOADS.search(text)
    assert page.tags.count("table") == page.tags.count("caption")
    assert page.tags.count("svg") <= page.tags.count("title") - 1
    assert text == plan_html(played) == plan_html(Plan.model_validate_json(played.model_dump_json()))


def test_a_plan_that_was_not_simulated_says_so(mixed: Plan) -> None:
    assert "Not simulated." in words_of(plan_html(mixed))
    assert "Simulated" not in plan_text(mixed)
    with pytest.raises(ValueError, match="not simulated"):
        simulation_text(mixed)


def test_names_in_a_simulation_are_escaped(played: Plan) -> None:
    evil = "</style><script>alert(1)</script>\"'&\x07"
    run = run_of(played)
    bad = run.with_(
        notes=(evil,),
        rules=tuple(r.with_(text=evil) for r in run.rules),
        series=tuple(s.with_(replicas=(evil,)) for s in run.series),
        replicas=tuple(r.with_(replica=evil) for r in run.replicas),
        distributions=tuple(d.with_(metric=evil) for d in run.distributions),
    )
    replicas = tuple(r.with_(name=evil) for r in played.replicas[:1])
    text = plan_html(played.with_(simulation=bad, replicas=replicas))
    assert "<script" not in text
    assert "\x07" not in text
    assert text.count("</style>") == 1
    assert Page(text).open == []
    assert "\x07" not in simulation_text(played.with_(simulation=bad, replicas=replicas))


def test_the_text_says_attainment_work_and_cost(played: Plan) -> None:
    for text in (simulation_text(played), plan_text(played)):
        line = next(x for x in text.splitlines() if "within every latency rule" in x)
        assert line.split()[-3:] == ["91%", "88%", "94%"]
        assert "$2.50/Mtok" in text
        assert "broken by 55%" in text
    assert re.search(r"r2 +150 +90% +40% +75% +2$", simulation_text(played), re.MULTILINE)


def test_verdicts_say_by_how_much_and_whether_the_runs_agree(played: Plan) -> None:
    run = run_of(played)
    assert [mood(rule, run) for rule in run.rules] == ["bad", "warn", "bad"]
    kept = run.rules[1].with_(text="p95(tpot) <= 90ms", limit=0.09)
    assert (verdict(kept, run), mood(kept, run)) == ("46% to spare", "good")
    assert verdict(run.rules[0].with_(value=5.84), run) == "broken: 15 times the limit"
    assert verdict(RuleCheck(text="x", line=1, holds=False), run) == "broken"
    assert rules_words(run.with_(rules=(kept,))) == "all rules hold"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.5, ("within the range", "good")),
        (0.1, 0.22, ("36% above its range", "warn")),
        (0.05, 0.12, ("2.5 times its upper end", "bad")),
        (0.6, 0.9, ("50% below its range", "bad")),
        (0.29, 0.29, ("3.4% above it", "warn")),
    ],
)
def test_departures_tell_chance_from_error(played: Plan, low: float, high: float, expected: tuple[str, str]) -> None:
    told = Prediction(metric="ttft", unit="s", value=(low + high) / 2, low=low, high=high)
    (found,) = departures(played.with_(predictions=(told,)))
    assert (found.verdict, found.mood) == expected


def test_saturation_is_not_held_against_a_load_below_it(played: Plan) -> None:
    names = ("goodput", "throughput")
    both = tuple(Prediction(metric=n, unit="req/s", value=9, low=8, high=10) for n in names)
    figures = (*run_of(played).figures, Simulated(metric="throughput", unit="tok/s", mean=1, low=1, high=1))
    plan = played.with_(predictions=both, simulation=run_of(played).with_(figures=figures))
    assert [d.metric for d in departures(plan)] == ["goodput"]
    assert [d.metric for d in departures(plan.with_(predictions=both[1:]))] == ["throughput"]


def test_only_upper_limits_of_one_latency_are_marked(played: Plan) -> None:
    (rule, _) = played.workflow.rules
    ttft, bound = Metric(name="ttft", stat="p95"), Number(value=1.0, unit="s")
    exprs = (Compare(op=">", left=bound, right=ttft), Compare(op=">=", left=ttft, right=bound))
    plan = played.with_(workflow=played.workflow.with_(rules=(rule, *(rule.with_(expr=e) for e in exprs))))
    assert [(x.value, x.share) for x in limits(plan, "ttft")] == [(0.4, 0.95), (1.0, 0.95)]
    assert limits(plan, "tpot") == ()


def test_the_share_within_a_limit_is_read_off_the_distribution(played: Plan) -> None:
    run = run_of(played)
    assert share_within(run, "ttft", 0.25) == pytest.approx(0.5)
    assert share_within(run, "ttft", 0.05) == 0.0
    assert share_within(run, "ttft", 9.0) == 1.0
    assert share_within(run, "latency", 1.0) is None


def test_limits_stand_where_the_curve_is_judged(played: Plan) -> None:
    """The curve of a rule that is broken passes below the ring at its limit."""
    (ttft, _) = latency_plots(played)
    (mark,) = ttft.chart.marks
    points = [tuple(map(float, p.split())) for p in ttft.chart.curves[0].path[1:].split("L")]
    before, after = next((a, b) for a, b in pairwise(points) if a[0] <= mark.x <= b[0])
    assert mark.point is not None
    assert max(before[1], after[1]) > mark.point
    assert ttft.notes == ("68% of the requests within 400ms",)


def test_curves_stay_inside_their_charts(played: Plan) -> None:
    plots = [*latency_plots(played), *(p for _, *pair in load_plots(played) for p in pair)]
    assert len(plots) == 2 + 2 * 3
    for plot in plots:
        for curve in plot.chart.curves:
            for command, numbers in re.findall(r"([MLHV])([\d. -]+)", curve.path):
                values = [float(n) for n in numbers.split()]
                across = values if command == "H" else values[:-1]
                up = values if command == "V" else values[len(across) :]
                assert all(LEFT <= x <= WIDTH - RIGHT for x in across)
                assert all(TOP - 0.1 <= y <= FLOOR for y in up)


def test_steps_hold_until_the_next_slice() -> None:
    assert step_path((1, 1, 3), linear(0, 3, 0, 30), linear(0, 3, 30, 0)) == "M0 20H20V0H30"


@given(st.floats(1e-9, 1e12))
def test_ticks_are_few_round_and_within(top: float) -> None:
    steps = round_steps(top)
    assert 2 <= len(steps) <= 5
    assert steps[-1] <= top * (1 + 1e-6)
    assert steps[-1] >= top / 2.6


@given(st.floats(1e-6, 1e3), st.floats(1.2, 1e6))
def test_words_of_a_logarithmic_axis_do_not_touch(low: float, ratio: float) -> None:
    high = low * ratio
    ticks = log_ticks(low, high, logarithmic(low, high, LEFT, WIDTH - RIGHT), "s")
    places = [tick.at for tick in ticks]
    assert len(ticks) <= 6
    assert all(b - a >= 48 for a, b in pairwise(places))
