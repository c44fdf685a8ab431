"""Tokens to text as they come, and the choice of tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from hexdsl.runtime.sampling import choose, uniform
from hexdsl.runtime.step import Draw
from hexdsl.runtime.text import Detokenizer, StopFilter


def decode(tokens: list[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(tokens).decode(errors="replace")


@given(st.text(), st.text(max_size=5))
def test_pieces_are_whole_characters_and_join_to_the_text(text: str, prompt: str) -> None:
    detokenizer = Detokenizer(decode, list(prompt.encode()))
    pieces = [detokenizer.push(byte) for byte in text.encode()]
    assert "".join(pieces) + detokenizer.flush() == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_bytes_that_never_become_a_character_are_not_held_for_ever() -> None:
    detokenizer = Detokenizer(decode, [])
    assert [detokenizer.push(0xFF) for _ in range(4)] == ["", "", "", "\ufffd" * 4]


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 30), max_size=10),
)
def test_stops_cut_at_the_first_place_however_the_text_comes(text: str, stops: list[str], cuts: list[int]) -> None:
    shown, hidden = "", StopFilter(stops)
    borders = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    for start, end in pairwise(borders):
        if not hidden.stopped:
            shown += hidden.push(text[start:end])
    shown += "" if hidden.stopped else hidden.flush()
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert hidden.stopped == bool(ends)
    if ends:
        assert any(shown + stop == text[: len(shown + stop)] for stop in stops)
        assert not any(stop in shown for stop in stops)
    else:
        assert shown == text


def test_a_beginning_of_a_stop_is_held_back() -> None:
    stop = StopFilter(["END"])
    assert [stop.push(piece) for piece in ("an E", "N", "Emy E", "ND of it")] == ["an ", "", "ENEmy ", ""]
    assert stop.stopped


def draw(temperature: float, top_p: float = 1.0, seed: int = 0, index: int = 0) -> Draw:
    return Draw(temperature, top_p, seed, index)


def test_draws_follow_the_softmax() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(4000, 1)
    drawn = choose(logits, [draw(1.0, seed=seed) for seed in range(4000)])
    shares = [drawn.count(token) / 4000 for token in range(3)]
    assert all(abs(share - wanted) < 0.03 for share, wanted in zip(shares, (0.5, 0.3, 0.2), strict=True))


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).repeat(500, 1)
    assert {*choose(logits, [draw(1.0, 0.7, seed) for seed in range(500)])} == {1, 2}
    assert {*choose(logits, [draw(1.0, 0.5, seed) for seed in range(500)])} == {1}


def test_temperature_zero_is_greedy_beside_others_that_are_not() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert choose(logits, [draw(0.0), draw(1e-6)]) == [1, 1]


def test_a_draw_hangs_on_seed_and_index_only() -> None:
    logits = torch.zeros(60, 1000)
    drawn = choose(logits, [draw(1.0, seed=seed, index=index) for seed in range(2) for index in range(30)])
    assert drawn == [choose(logits[:1], [draw(1.0, seed=s, index=i)])[0] for s in range(2) for i in range(30)]
    assert len({*drawn}) > 50
    assert len({uniform(seed, index) for seed in range(30) for index in range(30)}) == 900
