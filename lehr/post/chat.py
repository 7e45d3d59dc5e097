"""Conversations as token ids, and the mask that limits the loss to the assistant's own tokens.

A tokenizer may have a chat template of its own (lehr.post.jinja_chat). Without one, or under a recipe's
`chat: {template: lehr}`, conversations have the house's:

    <|user|>\\n{content}\\n<|assistant|>\\n{content}<|endoftext|>

with an optional `<|system|>\\n{content}\\n` first. `<|user|>` and the other markers are special tokens if the tokenizer has
them, and ordinary text otherwise, as in OLMo 2's own template. Contents are stripped, and `<|` and the names of special tokens
in them are broken up by a space: what a user types can never become a special token or a marker, neither here nor under
`transformers`, which tokenizes the rendered string.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from lehr.data.special_tokens import ROLES
from lehr.data.synthetic.conversations import Message
from lehr.data.template_file import quoted
from lehr.post.chat_export import without_generation
from lehr.post.chat_tokenizer import ChatTokenizer
from lehr.post.jinja_chat import render_jinja, turn_end
from lehr.runtime.errors import UserError

# The same template for Hugging Face; `tests/post/test_chat.py` checks that the two agree token by token.
_ANSWER = "{{- '<|assistant|>\\n' + content + eos_token -}}"
_MARKED = "{{- '<|assistant|>\\n' -}}{%- generation -%}{{- content + eos_token -}}{%- endgeneration -%}"
JINJA_TEMPLATE = (
    "{%- set first = 1 if messages and messages[0]['role'] == 'system' else 0 -%}"
    "{%- if messages | length == first -%}{{- raise_exception('there is no turn of a user') -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is not string -%}{{- raise_exception('the content of a turn is text') -}}{%- endif -%}"
    "{%- set content = message['content'] | replace('<|', '< |') | trim -%}"
    "{%- if loop.index0 < first -%}"
    "{{- '<|system|>\\n' + content + '\\n' -}}"
    "{%- elif message['role'] == 'user' and (loop.index0 - first) % 2 == 0 -%}"
    "{{- '<|user|>\\n' + content + '\\n' -}}"
    "{%- elif message['role'] == 'assistant' and (loop.index0 - first) % 2 == 1 -%}"
    f"{_ANSWER}"
    "{%- else -%}"
    "{{- raise_exception('roles are user and assistant in turn, after an optional system message') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{%- if messages[-1]['role'] != 'user' -%}{{- raise_exception('there is nothing to answer') -}}{%- endif -%}"
    "{{- '<|assistant|>\\n' -}}"
    "{%- endif -%}"
)


def chat_template(tokenizer: ChatTokenizer, *, marked: bool) -> str:
    """The template of a tokenizer's chats for other programs: its own, or `JINJA_TEMPLATE`, which also breaks up its special
    tokens.

    `marked` wraps the assistant's tokens in transformers' own tag `generation`, for its `return_assistant_tokens_mask`; not for
    GGUF files, whose readers may not know the tag.
    """
    if not _has_house_template(tokenizer):
        return tokenizer.chat_template if marked else without_generation(tokenizer.chat_template)
    return _house_template(tokenizer.special_names, marked)


@lru_cache(maxsize=16)
def _house_template(special_names: tuple[str, ...], marked: bool) -> str:
    filters = "".join(f" | replace({quoted(name)}, {quoted(broken)})" for name, broken in _broken(special_names))
    template = JINJA_TEMPLATE.replace(" | trim", f"{filters} | trim", 1)
    return template.replace(_ANSWER, _MARKED, 1) if marked else template


def _has_house_template(tokenizer: ChatTokenizer) -> bool:
    """Whether it has no template of its own, or has the house's from an export of ours."""
    own = tokenizer.chat_template
    return not own or own in (_house_template(tokenizer.special_names, marked) for marked in (True, False))


def turn_end_id(tokenizer: ChatTokenizer) -> int:
    """The token that ends an assistant's turn, at which sampling stops: the end of text, unless the tokenizer's own template
    has another. (One that takes no conversation has none: whoever renders by it is told.)"""
    if _has_house_template(tokenizer):
        return tokenizer.eos_id
    tokens = tuple(tokenizer.template_tokens.items())
    try:
        name = turn_end(tokenizer.chat_template, tokenizer.special_names, tokens)
    except UserError:
        return tokenizer.eos_id
    return tokenizer.special_ids[name] if name else tokenizer.eos_id


@lru_cache(maxsize=8)
def _broken(special_names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The special tokens that a content can still contain after its `<|` are broken up, longest first, each with its
    replacement. If more than eight begin with the same two characters, as DeepSeek's do, these two stand for all of them.
    """
    names = [name for name in special_names if "<|" not in name and len(name) > 1]
    begins = Counter(name[:2] for name in names if not any(c.isalnum() for c in name[:2]))
    found = {name[:2] if begins[name[:2]] > 8 else name for name in names}
    return tuple((name, f"{name[0]} {name[1:]}") for name in sorted(found, key=lambda name: (-len(name), name)))


def check_turns(messages: Sequence[Message], add_generation_prompt: bool) -> None:
    """Raises UserError unless the turns are user, assistant, user ... after at most one system message, and their contents
    text, as the house's template wants them. Its exported form refuses the same messages."""
    turns = [m.role for m in messages]
    if turns[:1] == ["system"]:
        turns = turns[1:]
    expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))]
    if not turns or turns != expected:
        raise UserError(
            f"a chat cannot have the turns {[m.role for m in messages]}",
            remedy="begin with an optional system message, then let user and assistant speak in turn",
        )
    others = [type(m.content).__name__ for m in messages if not isinstance(m.content, str)]
    if others:
        raise UserError(f"the content of a turn is text, not {others[0]}", remedy="give each message's content as text")
    if add_generation_prompt and turns[-1] != "user":
        raise UserError("there is nothing to answer after the assistant's turn", remedy="end the messages with a user's")


def _clean(content: str, special_names: tuple[str, ...]) -> str:
    content = content.replace("<|", "< |")
    for name, broken in _broken(special_names):
        content = content.replace(name, broken)
    return content.strip()


def render(
    messages: Sequence[Message],
    tokenizer: ChatTokenizer,
    add_generation_prompt: bool,
    tools: Sequence[dict[str, Any]] | None = None,
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether it is part of an assistant's turn: its words or its end-of-turn token.

    With `add_generation_prompt` the ids end where the assistant's next answer begins, so that a sampled answer continues
    exactly as in training. Every assistant turn ends in one end-of-turn token. `tools` are JSON schemas of functions that the
    assistant may call. Raises UserError for roles that the template does not know, for turns out of order, and for a template
    that drops one or refuses them.
    """
    if not _has_house_template(tokenizer):
        return render_jinja(messages, tokenizer, add_generation_prompt, tools)
    if tools or any(message.tool_calls for message in messages):
        remedy = "name one that has them in chat.template, such as granite"
        raise UserError("the chat template lehr has no place for tools and their calls", remedy=remedy)
    check_turns(messages, add_generation_prompt)
    ids: list[int] = []
    mask: list[bool] = []
    # Texts between two special tokens are encoded together, since merges may cross from one to the next when the whole string
    # is tokenized. Only answers are encoded separately from their header, so that a prompt is always a prefix of its
    # conversation.
    pieces = _pieces(messages, tokenizer, add_generation_prompt)
    for (is_text, assistant), run in groupby(pieces, key=lambda piece: (isinstance(piece[0], str), piece[1])):
        values = [value for value, _ in run]
        found = tokenizer.encode("".join(map(str, values))) if is_text else [int(value) for value in values]
        ids += found
        mask += [assistant] * len(found)
    return ids, mask


def render_to_learn(
    messages: Sequence[Message], tokenizer: ChatTokenizer, tools: Sequence[dict[str, Any]] | None = None
) -> tuple[list[int], list[bool]]:
    """`render` of a whole conversation for training. Raises UserError as it does, and if no turn of the assistant is in it."""
    ids, mask = render(messages, tokenizer, False, tools)
    if not any(mask):
        raise UserError("there is no turn of the assistant to learn from", remedy="leave this conversation out")
    return ids, mask


def _pieces(
    messages: Sequence[Message], tokenizer: ChatTokenizer, add_generation_prompt: bool
) -> Iterator[tuple[int | str, bool]]:
    """A conversation's special tokens and texts in order, and for each whether it is part of an assistant's turn."""
    for message in messages:
        yield from _header(message.role, tokenizer)
        content = _clean(message.content, tokenizer.special_names)
        if message.role == "assistant":
            yield from ((content, True), (tokenizer.eos_id, True))
        else:
            yield f"{content}\n", False
    if add_generation_prompt:
        yield from _header("assistant", tokenizer)


def _header(role: str, tokenizer: ChatTokenizer) -> Iterator[tuple[int | str, bool]]:
    marker = tokenizer.role_id(role)
    yield from ((f"{ROLES[role]}\n", False),) if marker is None else ((marker, False), ("\n", False))
