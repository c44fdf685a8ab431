"""From a client's request to the tokens of its prompt, and whether these fit here."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest

BODY_BYTES_PER_TOKEN = 16
SMALLEST_BODY_LIMIT = 1 << 20

Asked = CompletionRequest | ChatRequest


@dataclass(frozen=True)
class Prompts(ABC):
    """The tokenizer of a model whose requests are taken here.  One thread at a time may use it: `lock`."""

    tokenizer: PreTrainedTokenizerBase
    vocab: int
    lock: asyncio.Lock

    @property
    @abstractmethod
    def name(self) -> str:
        """The model's name, as clients send it."""

    @property
    @abstractmethod
    def max_context(self) -> int:
        """The longest prompt and answer together, in tokens."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The most tokens (prompt and answer) that one request may hold here."""

    @property
    def body_limit(self) -> int:
        return max(SMALLEST_BODY_LIMIT, BODY_BYTES_PER_TOKEN * self.max_context)

    async def prompt_of(self, asked: Asked) -> list[int]:
        """The prompt's tokens.  Raises `BadRequest` for another model, and for what cannot be encoded."""
        if asked.model not in (None, self.name):
            message = f"no model `{asked.model}` here; this server has `{self.name}`"
            raise BadRequest(message, param="model", status=404, code="model_not_found")
        if isinstance(asked, ChatRequest):
            return await self._encode_chat(asked)
        return await self._encode(asked.one_prompt)

    def most_of(self, asked: Asked, prompt: Sequence[int]) -> int:
        """The most tokens that the answer may have; a chat's may fill the context."""
        if isinstance(asked, CompletionRequest):
            return asked.max_tokens
        return asked.most_tokens or max(1, self.capacity - len(prompt))

    def check_fits(self, prompt: Sequence[int], most: int) -> None:
        """Raises `BadRequest` for a request without a prompt, or too long."""
        if not prompt:
            raise BadRequest("the prompt is empty", param="prompt")
        if len(prompt) + most > self.capacity:
            kind = "context" if self.capacity == self.max_context else "KV cache"
            numbers = f"{len(prompt)} prompt tokens + {most} max_tokens"
            raise BadRequest(
                f"{numbers} are more than the {kind} of {self.capacity} tokens",
                param="max_tokens",
                code="context_length_exceeded",
            )

    async def _encode(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            async with self.lock:
                encoded: list[int] = await asyncio.to_thread(lambda: self.tokenizer(prompt).input_ids)
            return encoded
        for token in prompt:
            if token >= self.vocab:
                raise BadRequest(f"token id {token} is not below the vocabulary's size {self.vocab}", param="prompt")
        return prompt

    async def _encode_chat(self, asked: ChatRequest) -> list[int]:
        if not self.tokenizer.chat_template:
            raise BadRequest("this model's tokenizer has no chat template; use /v1/completions", param="messages")
        turns = [message.plain() for message in asked.messages]
        try:
            async with self.lock:
                return await asyncio.to_thread(self._apply_template, turns)
        except TemplateError as error:
            raise BadRequest(f"the chat template refuses these messages: {error}", param="messages") from None

    def _apply_template(self, turns: list[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids
