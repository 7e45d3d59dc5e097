"""Answers conditioned on their quality, after C-RLFT (Wang et al. 2023, OpenChat) as Stable LM 2 section 3.3 uses it.

Good answers are trained under the chat template as it is; poor ones with "a negative token instead of the Assistant token". The
template asks for good answers ever after: neither it nor any export changes, but for the row of the token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lehr.data.special_tokens import ASSISTANT
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import chat_template, render
from lehr.post.jinja import compiled
from lehr.post.turns import values_of
from lehr.runtime.errors import UserError

NEGATIVE = "<|negative|>"
_ROLE = "assistant"  # how templates without a token of the role write it: ChatML, Granite


def with_negative(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer` with the negative token. Raises UserError if it has an ordinary token of that name."""
    if NEGATIVE in tokenizer.special_ids:
        return tokenizer
    return tokenizer.with_template(tokenizer.chat_template, [NEGATIVE])


def render_negative(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Sequence[dict[str, Any]] | None = None
) -> tuple[list[int], list[bool]]:
    """As `lehr.post.chat.render_to_learn`, with the negative token in place of the assistant's before the last answer, which
    alone is trained: answers before it are not known to be poor. Raises UserError as that does, if the conversation does not
    end with an answer, and for a template under which a prompt is not the beginning of its conversation."""
    if not messages or messages[-1].role != _ROLE:
        raise UserError("a negative conversation does not end with an answer", remedy="end it with the assistant's turn")
    asked, _ = render(messages[:-1], tokenizer, True, tools)
    ids, mask = render(messages, tokenizer, False, tools)
    header = _header(tokenizer)
    head = [*_before(asked, header, tokenizer), *_encoded(_replaced(header), tokenizer)]
    return head + ids[len(asked) :], [False] * len(head) + mask[len(asked) :]


def _header(tokenizer: Tokenizer) -> str:
    """What the template writes where an answer begins; empty where the user's turn ends with it, as in Llama 2's."""
    template = compiled(chat_template(tokenizer, marked=False))
    turns, tokens = [Message("user", "a")], tokenizer.template_tokens
    without, whole = (template.text(values_of(turns, None, prompt, tokens)) for prompt in (False, True))
    if not whole.startswith(without):
        what = "under the chat template a prompt does not begin with its turns: there is no place for the negative token"
        raise UserError(what, remedy="take another template in chat.template")
    return whole.removeprefix(without)


def _replaced(header: str) -> str:
    """The header with the negative token in place of the assistant's, or of the role's name; behind it if it has neither."""
    for old in (ASSISTANT, _ROLE):
        if old in header:
            return NEGATIVE.join(header.rsplit(old, 1))
    return header + NEGATIVE


def _before(asked: list[int], header: str, tokenizer: Tokenizer) -> list[int]:
    """A prompt's tokens without those of the header. What a token of it holds before the header is encoded again."""
    if not header:
        return asked
    for count in range(1, len(asked) + 1):
        end = tokenizer.decode(asked[-count:], skip_special=False)
        if end.endswith(header):
            return [*asked[:-count], *tokenizer.encode(end.removesuffix(header))]
    raise UserError(
        "the chat template's prompt does not end with the assistant's header", remedy="take another template in chat.template"
    )


def _encoded(text: str, tokenizer: Tokenizer) -> list[int]:
    """A template's own text: names of special tokens in it are these."""
    names = sorted(tokenizer.special_names, key=len, reverse=True)
    ids = list[int]()
    for i, piece in enumerate(re.split(f"({'|'.join(map(re.escape, names))})", text)):
        ids += [tokenizer.special_ids[piece]] if i % 2 else tokenizer.encode(piece)
    return ids
