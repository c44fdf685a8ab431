"""Whatever the text, hexc answers with a plan or with messages: 2,000 inputs here, more with bench/fuzz.py."""

from __future__ import annotations

from random import Random

from fuzz_specs import Seed, judge, mutated, nudged, seeds, small_seeds, soup
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

randoms = st.integers(0, 2**32 - 1).map(Random)
calm = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def look(seed: Seed, text: str) -> None:
    note(text)
    judge(seed, text)


@settings(calm, max_examples=1_300)
@given(st.sampled_from(seeds()), randoms)
def test_mutated_specs(seed: Seed, random: Random) -> None:
    look(seed, mutated(random, seed.text))


@settings(calm, max_examples=300)
@given(st.integers(0, 99), randoms)
def test_specs_with_other_figures(which: int, random: Random) -> None:
    seed = small_seeds()[which % len(small_seeds())]
    look(seed, nudged(random, seed.text))


@settings(calm, max_examples=400)
@given(randoms)
def test_token_soup(random: Random) -> None:
    look(seeds()[0], soup(random))


def test_the_seeds_are_good() -> None:
    found = {seed.path.name: judge(seed, seed.text) for seed in seeds() if "specs" in seed.path.parts}
    assert set(found.values()) <= {"checked", "planned", "P003", "P008"}
    assert len(small_seeds()) >= 2
