"""A tokenizer under another chat template."""

from __future__ import annotations

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render_to_learn
from lehr.post.templates import markers_of, text_of


def with_template(tokenizer: Tokenizer, chosen: str) -> Tokenizer:
    """`tokenizer` with the template that `lehr.post.templates.resolved` chose and the tokens that it brings. Raises UserError
    for a template that takes no conversation or cannot be trained on, and for a token that texts can produce."""
    template, markers = text_of(chosen, tokenizer.chat_template), markers_of(chosen)
    missing = [name for name in markers if name not in tokenizer.special_ids]
    found = tokenizer.with_template(template, missing) if missing or template != tokenizer.chat_template else tokenizer
    render_to_learn([Message("user", "a"), Message("assistant", "b")], found)
    return found
