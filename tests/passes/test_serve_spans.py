"""The spans of pipelines behind the bound: their parts cover them, and nothing twice."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hexdsl.passes.serve.fluid import ENDLESS, FINE, Span

SPANS = (Span(1.0, 2.0, 2, 3), Span(32.0, 64.0, 16, ENDLESS), Span(30.0, 34.0, 8, 9), Span(5.0, 5.1, 4, 7))


@pytest.mark.parametrize("span", SPANS)
def test_parts_cover_a_span_once(span: Span) -> None:
    lanes = sorted({(p.few, p.many) for p in span.parts})
    sizes = sorted({(p.low, p.high) for p in span.parts})
    assert len(span.parts) == len(lanes) * len(sizes)
    assert (lanes[0][0], lanes[-1][1], sizes[0][0], sizes[-1][1]) == (span.few, span.many, span.low, span.high)
    assert all(a[1] + 1 == b[0] for a, b in pairwise(lanes))
    assert all(a[1] == b[0] for a, b in pairwise(sizes))


@pytest.mark.parametrize("span", [Span(30.0, 30.0 * FINE, 8, 8), Span(1.0, 1.0, 1, 1)])
def test_a_narrow_span_is_not_divided(span: Span) -> None:
    assert span.parts == (span,)


def test_dividing_ends() -> None:
    spans = [Span(16.0, 32.0, 2, 15)]
    for _ in range(6):
        spans = [part for span in spans for part in span.parts]
    assert all(span.parts == (span,) for span in spans)
