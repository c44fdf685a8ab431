"""One request as two: a prefill whose KV cache stays where it was made, and a decode that fetches it.

The two instances speak through `kv_transfer_params` in the bodies of OpenAI's API, as vLLM's KV connectors do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

FIELD = "kv_transfer_params"

KEEP: Mapping[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""Asks for a prefill whose KV cache another instance will fetch."""

ONE_TOKEN: Mapping[str, Any] = {"max_tokens": 1, "stream": False, FIELD: KEEP}

LEFT_OUT = ("stream_options", "min_tokens", "max_completion_tokens")
"""Fields that contradict an answer of one token."""

WHOLE = ("echo", "prompt_logprobs", "best_of", FIELD)
"""Fields with which a request needs its prompt where it decodes, or more than one KV cache."""


def prefill_of(body: bytes) -> bytes | None:
    """The request that only prefills, None where the request cannot be halved."""
    asked = _object(body)
    if asked is None or asked.get("n") not in (None, 1) or any(asked.get(name) for name in WHOLE):
        return None
    if "messages" not in asked and not _is_one_prompt(asked.get("prompt")):
        return None
    return _bytes({**{name: value for name, value in asked.items() if name not in LEFT_OUT}, **ONE_TOKEN})


def decode_of(body: bytes, prefilled: bytes) -> bytes:
    """The request with where its KV cache is; as it was, where the answer to the prefill does not say that."""
    asked, answer = _object(body), _object(prefilled)
    if asked is None or answer is None or not answer.get(FIELD):
        return body
    return _bytes({**asked, FIELD: answer[FIELD]})


def _is_one_prompt(prompt: object) -> bool:
    return isinstance(prompt, str) or (isinstance(prompt, list) and all(isinstance(token, int) for token in prompt))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _bytes(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()
