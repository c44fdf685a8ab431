"""OpenAI's completions and chat completions: what a request may say, and the shapes of the answers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
}
"""Fields that are not served, but may be present at the value that means nothing."""

UNUSED = ("user", "metadata", "store", "service_tier")
"""Fields about the client that do not change an answer."""

Stop = Annotated[str, Field(min_length=1, max_length=256)]


UNIONS = {
    "prompt": "a text, a list of token ids, or a list that holds one of these is wanted",
    "stop": "a text or at most 4 texts are wanted, each of 1 to 256 characters",
}
"""For fields that may be several things, where pydantic would complain about the first of them only."""


class BadRequest(Exception):
    """The client's mistake, in OpenAI's error shape."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code


class StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    include_usage: bool = False


class Request(BaseModel):
    """What both endpoints share.  A null means the default; an unknown field is refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="before")
    @classmethod
    def _without_what_means_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None and k not in UNUSED and not _neutral(k, v)}

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def fixed_seed(self) -> int:
        """The client's seed, or a random one."""
        return secrets.randbits(63) if self.seed is None else self.seed


def _neutral(key: str, value: Any) -> bool:
    return key in NEUTRAL and type(value) in (type(NEUTRAL[key]), float) and value == NEUTRAL[key]


TokenId = Annotated[int, Field(ge=0)]


class CompletionRequest(Request):
    """`prompt` is a text, a list of token ids, or a list that holds one of these."""

    max_tokens: int = Field(16, ge=1)
    prompt: str | list[TokenId] | Annotated[list[str] | list[list[TokenId]], Field(min_length=1, max_length=1)]

    @property
    def one_prompt(self) -> str | list[int]:
        if isinstance(self.prompt, list) and self.prompt and not isinstance(self.prompt[0], int):
            return self.prompt[0]
        return self.prompt  # type: ignore[return-value]


class TextPart(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation; content in parts is joined."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        parts = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": parts}


class ChatRequest(Request):
    """`max_tokens`, also called `max_completion_tokens`, is by default all that fits."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


Kind = TypeVar("Kind", bound=BaseModel)


def parse(body: bytes, kind: type[Kind]) -> Kind:
    """The request in a body.  Raises `BadRequest` that names the field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _complaint(error) from None


def _complaint(error: ValidationError) -> BadRequest:
    problem = error.errors(include_url=False)[0]
    field = str(problem["loc"][0]) if problem["loc"] else None
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return BadRequest(f"`{field}` is not supported", param=field)
    words = problem["msg"].removeprefix("Value error, ")
    if field in UNIONS and problem["type"] != "missing":
        words = UNIONS[field]
    return BadRequest(f"`{field}`: {words}" if field else words, param=field)


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Shape:
    """The answers to one request: a whole one, and the chunks of a stream."""

    def __init__(self, model: str, created: int, *, chat: bool) -> None:
        self._chat = chat
        self._common = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": created,
            "model": model,
        }

    def whole(self, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._common, "object": kind, "choices": [self._choice(said, finish)], "usage": usage}

    def first(self) -> dict[str, Any] | None:
        """A chat stream begins by naming the role."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self._chat else None

    def piece(self, text: str, finish: str | None) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        return self._chunk({"delta": delta} if self._chat else {"text": text}, finish)

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._common, "object": self._stream_kind, "choices": [], "usage": usage}

    @property
    def _stream_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _chunk(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {**self._common, "object": self._stream_kind, "choices": [self._choice(said, finish)]}

    def _choice(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": finish}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
