"""Specs gone wrong, and what hexc makes of them: shared by the test and by bench/fuzz.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec import Spec, Workflow
from hexdsl.lang.diagnostics import render, to_json
from hexdsl.lang.format import format_text
from hexdsl.lang.resolve import Loaded, load_source
from hexdsl.lang.source import Source, decode
from hexdsl.passes.base import run_passes
from hexdsl.passes.inventory import groups_of
from hexdsl.passes.serve.simulate import Size, simulated
from hexdsl.pipeline import PIPELINES, kind_of, plan_spec, start
from hexdsl.report.text import plan_text

ROOT = Path(__file__).parents[2]
MOST_GPUS = 8
"""Specs with more GPUs are checked only: planning them takes longer than a fuzzer has."""

NUMBERS = (
    "0", "1", "2", "3", "7", "8", "64", "0.5", "0.0001", "1_000", "4096", "1e3", "1e-9", "1e30", "1e308", "1e400",
    "99999999999999999999999999", "1__0", "00", "1.", "1e", "0x10",
)  # fmt: skip
UNITS = (
    "", "B", "b", "K", "M", "T", "GB", "GiB", "MB", "Gb/s", "GB/s", "ms", "s", "h", "req/s", "tok/s", "tok", "TFLOP/s",
    "%", "W", "QB", "gb", "req", "/s", "GB/h/s",
)  # fmt: skip
WORDS = (
    "serve", "gpu", "cluster", "model", "workload", "nodes", "target", "torch", "phase", "rl", "cascade", "agentic",
    "tier", "class", "param", "let", "import", "in", "not", "and", "or", "as", "true", "maximize", "minimize", "bf16",
    "fp8", "tp", "pp", "dp", "gpus", "ttft", "tpot", "throughput", "goodput", "cost", "p95", "mean", "poisson", "gamma",
    "lognormal", "file", "int4", "count", "price", "arrivals", "within", "replicas", "$2/gpu/h", "$1/h", '"text"',
    '"std/gpus.hex"', "H100", "llama8b",
)  # fmt: skip
MARKS = (*"{}[]()=:,.<>+-*/#;'\"@&|!%$\\`~^?\t\n", "..", "->", "<->", "<=", ">=", "==", "!=", "**", "//", "=>")
ODD = ("\0", "\x1b[31m", "\u202e", "\ufeff", "\u2028", "\ud800", "\r", "\x7f", "\u00a0", "a\u0301", *"éµ中😀“")
TOKEN = re.compile(r'[A-Za-z_]\w*|\$?\d[\w.%/]*|"[^"\n]*"|\s+|.')


@dataclass(frozen=True)
class Seed:
    """A good spec, with the path that its imports are relative to."""

    path: Path
    text: str


@cache
def seeds() -> tuple[Seed, ...]:
    """Every spec of the project that is meant to be good."""
    good = (*ROOT.glob("specs/*/*.hex"), *ROOT.glob("tests/syntax/good/*.hex"), *ROOT.glob("tests/plans/*.hex"))
    return tuple(Seed(path, path.read_text(encoding="utf-8")) for path in sorted(good))


@cache
def small_seeds() -> tuple[Seed, ...]:
    """The good specs that are planned when nothing is wrong with them."""
    return tuple(seed for seed in seeds() if judge(seed, seed.text) == "planned")


def soup(random: Random) -> str:
    """Tokens in no order."""
    glue = random.choice(["", " "])
    kinds = (WORDS, WORDS, MARKS, MARKS, NUMBERS, UNITS, ODD)
    return glue.join(random.choice(random.choice(kinds)) for _ in range(random.randrange(60)))


def mutated(random: Random, text: str) -> str:
    """A text after a few mutations, more often few."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        text = random.choice(MUTATIONS)(random, text)
    return text


def nudged(random: Random, text: str) -> str:
    """A text with other figures, which often still is a spec: what planning must cope with."""
    for _ in range(random.choice((1, 1, 2, 3))):
        text = random.choice(NUDGES)(random, text)
    return text


def _tokens(change: Callable[[Random, list[str], int], None]) -> Callable[[Random, str], str]:
    def mutate(random: Random, text: str) -> str:
        parts = TOKEN.findall(text) or [""]
        change(random, parts, random.randrange(len(parts)))
        return "".join(parts)

    return mutate


def _lines(change: Callable[[Random, list[str], int], None]) -> Callable[[Random, str], str]:
    def mutate(random: Random, text: str) -> str:
        parts = text.splitlines(keepends=True) or [""]
        change(random, parts, random.randrange(len(parts)))
        return "".join(parts)

    return mutate


def _drop(random: Random, parts: list[str], at: int) -> None:
    del parts[at]


def _double(random: Random, parts: list[str], at: int) -> None:
    parts.insert(random.randrange(len(parts)), parts[at])


def _swap(random: Random, parts: list[str], at: int) -> None:
    other = random.randrange(len(parts))
    parts[at], parts[other] = parts[other], parts[at]


def _matching(pattern: str, new: Callable[[Random, str], str]) -> Callable[[Random, str], str]:
    """Changes one occurrence of a pattern."""

    def mutate(random: Random, text: str) -> str:
        found = list(re.finditer(pattern, text))
        if not found:
            return text
        hit = random.choice(found)
        return text[: hit.start()] + new(random, hit.group()) + text[hit.end() :]

    return mutate


def _insert(choices: tuple[str, ...]) -> Callable[[Random, str], str]:
    def mutate(random: Random, text: str) -> str:
        at = random.randrange(len(text) + 1)
        return text[:at] + random.choice(choices) + text[at:]

    return mutate


def _truncate(random: Random, text: str) -> str:
    return text[: random.randrange(len(text) + 1)]


def _another_name(random: Random, old: str) -> str:
    return random.choice((*WORDS, old + "x", old[1:] or "_", old.upper(), old * 20))


_NUMBER = _matching(r"\d[\d_.]*", lambda random, _: random.choice(NUMBERS))
_UNIT = _matching(r"(?<=\d)[A-Za-z%][A-Za-z/]*", lambda random, _: random.choice(UNITS))
_NAME = _matching(r"[A-Za-z_]\w*", _another_name)

MUTATIONS: tuple[Callable[[Random, str], str], ...] = (
    _tokens(_drop), _tokens(_double), _tokens(_swap), _lines(_drop), _lines(_double), _lines(_swap),
    _NUMBER, _NUMBER, _NUMBER, _UNIT, _UNIT, _NAME, _NAME, _insert(MARKS), _insert(WORDS), _insert(ODD), _truncate,
)  # fmt: skip

NUDGES = (_NUMBER, _NUMBER, _NUMBER, _matching(r"\b[0-9]+\b", lambda random, _: str(random.randrange(1, 9))), _UNIT)


def judge(seed: Seed, text: str) -> str:
    """What hexc makes of a text: the code that rejects it, `checked` or `planned`.  Anything but SpecError gets out."""
    source = Source(seed.path.name, "")
    try:
        source = Source(source.name, decode(text.encode("utf-8", "surrogatepass"), source.name))
        loaded = load_source(source, seed.path)
    except SpecError as error:
        return _told(error, getattr(error, "sources", {source.name: source}))
    format_text(source)
    if not any(_is_small(w) for w in loaded.spec.workflows):
        return "checked"
    return _planned(loaded, loaded.spec)


def _planned(loaded: Loaded, spec: Spec) -> str:
    for workflow in spec.workflows:
        if _is_small(workflow):
            try:
                assert plan_text(_quickly(spec, workflow), 100)
            except SpecError as error:
                return _told(error, loaded.sources)
    return "planned"


def _quickly(spec: Spec, workflow: Workflow) -> Plan:
    """The plan of one search and a short simulation: more searches are more of the same."""
    passes = PIPELINES.get(kind_of(workflow))
    if passes is None:
        return plan_spec(spec, workflow.name, lambda *_: None)
    search = [p for p in passes if p.name != "simulate"]
    return simulated(run_passes(search, start(spec, workflow), lambda *_: None), Size(30, seeds=1))


def _is_small(workflow: Workflow) -> bool:
    return sum(g.count * g.gpus.count for g in groups_of(workflow.on)) <= MOST_GPUS


def _told(error: SpecError, sources: object) -> str:
    """The first code, once the messages were shown in every form."""
    assert isinstance(sources, dict)
    assert error.diagnostics
    shown = render(error.diagnostics, sources)
    assert all(c.isprintable() or c == "\n" for c in shown)
    json.dumps(to_json(error.diagnostics, sources))
    return error.diagnostics[0].code
