"""Bodies of requests, in OpenAI's words, and vLLM's for what OpenAI has no word for. What this server does not do is refused
and never ignored: an answer must be the one that was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lehr.runtime.errors import UserError, validators_words

MAX_ANSWERS = 128  # of one request: prompts times n
_IDS = list[Annotated[int, Field(ge=0)]]
_Zero = Annotated[float, Field(ge=0, le=0)]
_One = Annotated[float, Field(ge=1, le=1)]


class Refused(UserError):
    """A request that cannot be answered as it stands: 400, or `status`. `param` is the key that is wrong."""

    def __init__(self, what: str, param: str = "", status: int = 400) -> None:
        super().__init__(what, where=param)
        self.param, self.status = param, status


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


class Body(BaseModel):
    """The keys of both kinds of requests. Those of the last group have one value that means nothing, and no other is taken."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = ""
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] = 1
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    # vLLM's
    stop_token_ids: _IDS | None = None
    ignore_eos: bool = False
    return_token_ids: bool | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # without an effect on the answer
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    presence_penalty: _Zero | None = None
    frequency_penalty: _Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=0)] | None = None
    min_p: _Zero | None = None
    repetition_penalty: _One | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])


class Completion(Body):
    """POST /v1/completions."""

    prompt: str | _IDS | list[str] | list[_IDS] = Field(min_length=1)
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One or several, each text or ids."""
        given: Any = self.prompt
        return [given] if isinstance(given, str) or isinstance(given[0], int) else given


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class _Function(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    arguments: str = "{}"  # an object, as JSON

    @field_validator("arguments")
    @classmethod
    def _an_object(cls, value: str) -> str:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("arguments are an object, written as JSON")
        return value


class ToolCall(BaseModel):
    """An assistant's call of a tool."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = ""
    type: Literal["function"] = "function"
    function: _Function

    @property
    def call(self) -> dict[str, Any]:
        """As lehr.data.synthetic.conversations.Message has it."""
        return {"name": self.function.name, "arguments": json.loads(self.function.arguments)}


class Turn(BaseModel):
    """A message of a chat. Which roles and tools a model knows, its chat template says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[_Text] | None = None
    name: str = ""
    tool_calls: list[ToolCall] = []
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """Its parts, joined."""
        if self.content is None:
            return ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Chat(Body):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1)]
    tools: list[dict[str, Any]] = []
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class Load(BaseModel):
    """POST /v1/load."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: Annotated[str, Field(min_length=1, max_length=1000)]


B = TypeVar("B", bound=BaseModel)


def parsed(kind: type[B], raw: bytes) -> B:
    """The body, checked. Raises Refused for what is no JSON object, for unknown keys and for values out of range."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused("the body is not JSON") from None
    if not isinstance(found, Mapping):
        raise Refused("the body is not a JSON object")
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Refused("this server does not know this key", place) from None
        raise Refused(validators_words(first["msg"]), place) from None
