"""JSON samples: whether they have the form of a real output, and taking its values over."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 100


def misfits(sample: Any, real: Any, place: str = "") -> list[str]:
    """Where a sample has a field or a type that the real output lacks.  Lists may be shorter."""
    if isinstance(sample, dict) and isinstance(real, dict):
        missing = [f"{place}.{key} does not exist" for key in sample if key not in real]
        return missing + [m for key in sample if key in real for m in misfits(sample[key], real[key], f"{place}.{key}")]
    if isinstance(sample, list) and isinstance(real, list):
        if len(sample) > len(real):
            return [f"{place} has only {len(real)} items"]
        pairs = enumerate(zip(sample, real, strict=False))
        return [m for i, (one, other) in pairs for m in misfits(one, other, f"{place}[{i}]")]
    kinds = [
        (int, float) if isinstance(v, (int, float)) and not isinstance(v, bool) else type(v) for v in (sample, real)
    ]
    return [] if kinds[0] == kinds[1] else [f"{place} is {real!r}"]


def renewed(sample: Any, real: Any) -> Any:
    """The sample with the values of the real output."""
    if isinstance(sample, dict) and isinstance(real, dict):
        return {key: renewed(value, real[key]) for key, value in sample.items() if key in real}
    if isinstance(sample, list) and isinstance(real, list):
        return [renewed(one, other) for one, other in zip(sample, real, strict=False)]
    return real


def pretty(value: Any, indent: int = 0, used: int = 0) -> str:
    """JSON in which whatever fits stands on one line.  `used` columns are taken by what stands before the value."""
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or indent + used + len(short) < WIDTH:
        return short
    inner, edge = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + pretty(item, indent + 2) for item in value) + f"\n{edge}]"
    pairs = ((json.dumps(key) + ": ", item) for key, item in value.items())
    return "{\n" + ",\n".join(inner + key + pretty(item, indent + 2, len(key)) for key, item in pairs) + f"\n{edge}}}"
