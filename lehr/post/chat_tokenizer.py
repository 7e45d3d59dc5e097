"""The part of a tokenizer that chats need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ChatTokenizer(Protocol):
    """The part of `lehr.data.tokenizer.Tokenizer` that chats need. `encode` never yields a special token; `chat_template` is
    the Jinja template of its own, empty for the house's."""

    @property
    def eos_id(self) -> int: ...

    @property
    def special_names(self) -> tuple[str, ...]: ...

    @property
    def special_ids(self) -> Mapping[str, int]: ...

    @property
    def chat_template(self) -> str: ...

    @property
    def template_tokens(self) -> Mapping[str, str]: ...

    def role_id(self, role: str) -> int | None: ...

    def encode(self, text: str) -> list[int]: ...
