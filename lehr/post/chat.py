"""The chat template, and the mask that lets only the assistant's own tokens count.

    <|user|>\\n{content}\\n<|assistant|>\\n{content}<|endoftext|>

with an optional `<|system|>\\n{content}\\n` first. Contents are stripped, and `<|` inside one is broken up: what a user
types can never become a special token, neither here nor under `transformers`, which parses the rendered string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lehr.data.synthetic.conversations import Message
from lehr.errors import UserError

# The same template for Hugging Face; `tests/post/test_chat.py` holds the two equal, token by token.
JINJA_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set content = message['content'] | replace('<|', '< |') | trim -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>\\n' + content + eos_token -}}"
    "{%- elif message['role'] == 'user' or (message['role'] == 'system' and loop.first) -%}"
    "{{- '<|' + message['role'] + '|>\\n' + content + '\\n' -}}"
    "{%- else -%}"
    "{{- raise_exception('roles are user and assistant in turn, after an optional system message') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)


class ChatTokenizer(Protocol):
    """The part of `lehr.data.tokenizer.Tokenizer` that a chat needs. `encode` never yields a special token."""

    @property
    def eos_id(self) -> int: ...

    @property
    def system_id(self) -> int: ...

    @property
    def user_id(self) -> int: ...

    @property
    def assistant_id(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...


def check_turns(messages: Sequence[Message], add_generation_prompt: bool) -> None:
    """UserError unless the turns are user, assistant, user ... after at most one system message."""
    turns = [m.role for m in messages]
    if turns[:1] == ["system"]:
        turns = turns[1:]
    expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))]
    if not turns or turns != expected:
        raise UserError(
            f"a chat cannot have the turns {[m.role for m in messages]}",
            remedy="begin with an optional system message, then let user and assistant speak in turn",
        )
    if add_generation_prompt and turns[-1] != "user":
        raise UserError("there is nothing to answer after the assistant's turn", remedy="end the messages with a user's")


def _clean(content: str) -> str:
    return content.replace("<|", "< |").strip()


def render(messages: Sequence[Message], tokenizer: ChatTokenizer, add_generation_prompt: bool) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether it is the assistant's: its words and the end-of-turn token.

    With `add_generation_prompt` the ids end where the assistant's next words begin, so that a sampled answer
    continues exactly as training saw it. Every assistant turn has one end-of-turn token, its last. Raises UserError
    for turns out of order.
    """
    check_turns(messages, add_generation_prompt)
    ids: list[int] = []
    mask: list[bool] = []

    def add(tokens: list[int], assistant: bool) -> None:
        ids.extend(tokens)
        mask.extend([assistant] * len(tokens))

    header = {"system": tokenizer.system_id, "user": tokenizer.user_id}
    # Encoded apart from the answer, so that a prompt is always a prefix of the conversation that it opens.
    answer_header = [tokenizer.assistant_id, *tokenizer.encode("\n")]
    for message in messages:
        content = _clean(message.content)
        if message.role == "assistant":
            add(answer_header, False)
            add([*tokenizer.encode(content), tokenizer.eos_id], True)
        else:
            add([header[message.role], *tokenizer.encode(f"\n{content}\n")], False)
    if add_generation_prompt:
        add(answer_header, False)
    return ids, mask
