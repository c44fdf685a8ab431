"""The engine's loop over a stub rank, the request parser, and the shapes of metrics."""

from __future__ import annotations

import json
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_harness import engine_config, until

from hexdsl.runtime import engine as engine_module
from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest, parse
from hexdsl.runtime.config import EngineConfig
from hexdsl.runtime.engine import Busy, Engine, Stopping
from hexdsl.runtime.events import Event
from hexdsl.runtime.metrics import Counter, Histogram, render
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.step import Step


class Pipe:
    """Answers every draw with the token 65."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.deepest = 0
        self._flying: deque[Step] = deque()

    def share(self, step: Step) -> None:
        self.steps.append(step)

    def collect(self, count: int) -> list[int]:
        self.deepest = max(self.deepest, len(self._flying))
        assert len(self._flying.popleft().draws) == count
        return [65] * count

    def flush(self) -> None:
        pass


class Rank:
    def __init__(self) -> None:
        self.pipe = Pipe()

    def run(self, step: Step, _: None) -> None:
        if step.kind == "run":
            self.pipe._flying.append(step)


def make(tmp_path: Path, **changes: Any) -> tuple[Engine, Rank]:
    config = EngineConfig.model_validate(engine_config(tmp_path, [(0, 2, 1), (2, 4, 1)], **changes))
    rank = Rank()
    return Engine(config, rank, lambda tokens: bytes(tokens).decode(), frozenset()), rank  # type: ignore[arg-type]


def test_as_many_steps_as_stages_are_under_way(tmp_path: Path) -> None:
    engine, rank = make(tmp_path)
    told: list[Event] = []
    for _ in range(4):
        engine.submit([1, 2, 3], Sampling(5), [], told.append)
    thread = threading.Thread(target=engine.run)
    thread.start()
    assert until(lambda: sum(event.last for event in told) == 4, 10)
    engine.stop()
    thread.join(10)
    assert rank.pipe.deepest == 2
    assert "".join(event.text for event in told) == "A" * 20
    assert rank.pipe.steps[-1].kind == "stop"
    with pytest.raises(Stopping):
        engine.submit([1], Sampling(1), [], told.append)


def test_a_queue_of_none_still_has_the_seats_of_the_batch(tmp_path: Path) -> None:
    engine, _ = make(tmp_path, max_queue=0, max_batch=2)
    for _ in range(2):
        engine.submit([1], Sampling(5), [], lambda _: None)
    with pytest.raises(Busy):
        engine.submit([1], Sampling(5), [], lambda _: None)


def test_an_idle_engine_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "BEAT", 0.01)
    engine, rank = make(tmp_path)
    thread = threading.Thread(target=engine.run)
    thread.start()
    assert until(lambda: len(rank.pipe.steps) > 2, 5)
    engine.stop()
    thread.join(10)
    assert {step.kind for step in rank.pipe.steps[:-1]} == {"beat"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (*CompletionRequest.model_fields, "messages", "n", "logit_bias", "user", "tools")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5), st.sampled_from([CompletionRequest, ChatRequest]))
def test_any_body_is_a_request_or_a_bad_request(body: dict[str, Any], kind: Any) -> None:
    try:
        stops = parse(json.dumps(body).encode(), kind).stops
    except BadRequest as bad:
        stops = [bad.message]
    assert all(isinstance(stop, str) and stop for stop in stops)


@given(st.binary(max_size=50))
def test_any_bytes_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body, ChatRequest)


def test_metrics_are_cumulative_and_escaped() -> None:
    times = Histogram("t_seconds", "Times.", (0.1, 1))
    for seconds in (0.1, 0.5, 7):
        times.observe(seconds)
    names = Counter("n_total", "Names.", "name", ['a"b'])
    names.add(2, 'a"b')
    assert render([times, names]).splitlines() == [
        "# HELP t_seconds Times.",
        "# TYPE t_seconds histogram",
        't_seconds_bucket{le="0.1"} 1',
        't_seconds_bucket{le="1"} 2',
        't_seconds_bucket{le="+Inf"} 3',
        "t_seconds_sum 7.6",
        "t_seconds_count 3",
        "# HELP n_total Names.",
        "# TYPE n_total counter",
        'n_total{name="a\\"b"} 2',
    ]
