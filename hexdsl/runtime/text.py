"""Tokens to text while they come: whole characters only, and stop strings found across token borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hexdsl.runtime.config import RuntimeFault

CONTEXT = 6
"""Prompt tokens decoded before the answer, because some tokenizers drop a leading space at the start of a text."""

UNFINISHED = "\ufffd"
"""What a decoder puts for bytes that are not yet a whole character."""

LONGEST_CHARACTER = 4
"""Bytes, and so at most tokens: after as many it is no character that still comes."""


Decode = Callable[[list[int]], str]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer.  Raises `RuntimeFault` where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise RuntimeFault(f"{folder}: the tokenizer cannot be read: {str(error).splitlines()[0]}") from None
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def reader(tokenizer: PreTrainedTokenizerBase) -> Decode:
    """Tokens to text without the special ones."""
    return lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True))


class Detokenizer:
    """Incremental decoding: each token is decoded with those before it since the last text that came out whole."""

    def __init__(self, decode: Decode, prompt: Sequence[int]) -> None:
        self._decode = decode
        self._tokens = list(prompt[-CONTEXT:])
        self._known = decode(self._tokens)
        self._held = 0

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        self._held += 1
        if text.endswith(UNFINISHED) and self._held < LONGEST_CHARACTER:
            return ""
        return self._advance(text)

    def flush(self) -> str:
        """What is left at the end, unfinished characters as replacement marks."""
        return self._advance(self._decode(self._tokens))

    def _advance(self, text: str) -> str:
        fresh = text[len(self._known) :]
        self._held = 0
        self._tokens = self._tokens[-CONTEXT:]
        self._known = self._decode(self._tokens)
        return fresh


class StopFilter:
    """Holds text back while it may be the beginning of a stop string, and cuts at the first one that appears."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is safe to show."""
        self._held += text
        places = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._release(min(places), forget=True)
        return self._release(len(self._held) - self._suspect())

    def flush(self) -> str:
        return self._release(len(self._held))

    def _suspect(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if any(s.startswith(self._held[-n:]) for s in self._stops)), 0)

    def _release(self, length: int, *, forget: bool = False) -> str:
        shown, self._held = self._held[:length], "" if forget else self._held[length:]
        return shown
