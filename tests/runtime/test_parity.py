"""Greedy answers equal those of transformers' `generate`, whatever the split, alone and batched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from runtime_harness import Reference, Stages, engine_config, start_replica

PROMPTS = (
    "Hello there",
    "A tiny model says",
    "one after another " * 12,  # longer than a prefill chunk
    "layers",
    "it stops, and then it holds a few words",
)
TOKENS = 40

SPLITS: dict[str, tuple[str, Stages, int]] = {
    "one stage": ("llama", [(0, 4, 1)], 64),
    "two uneven stages": ("llama", [(0, 1, 1), (1, 4, 1)], 64),
    "three uneven stages, few blocks": ("llama", [(0, 2, 1), (2, 3, 1), (3, 4, 1)], 12),
    "TP 2 that share a KV head": ("one_kv_head", [(0, 4, 2)], 64),
    "TP 1, 2, 1": ("qwen3", [(0, 1, 1), (1, 3, 2), (3, 4, 1)], 64),
}


@pytest.mark.parametrize(("kind", "stages", "blocks"), SPLITS.values(), ids=SPLITS)
def test_greedy_equals_generate(
    kind: str, stages: Stages, blocks: int, tmp_path: Path, request: pytest.FixtureRequest, reference: Reference
) -> None:
    folder = request.getfixturevalue(kind)
    wanted = [reference(folder, prompt, TOKENS) for prompt in PROMPTS]
    replica = start_replica(tmp_path, engine_config(folder, stages, blocks=blocks))
    try:
        assert [replica.text(prompt, TOKENS) for prompt in PROMPTS[:3]] == wanted[:3]
        assert replica.texts(PROMPTS * 2, TOKENS) == wanted * 2  # more than there are seats, so that some overlap
        assert (replica.metric("hexc_preemptions") > 0) == (blocks == 12)
        assert replica.metric("hexc_kv_blocks_used") == 0
    finally:
        codes = replica.stop(signal.SIGTERM)
    assert codes == [0] * len(codes)
