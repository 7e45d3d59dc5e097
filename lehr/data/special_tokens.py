"""Names of special tokens, and which token of a tokenizer ends a text."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as Backend

EOS, PAD, SYSTEM, USER, ASSISTANT = SPECIALS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
END_OF_TEXT = (EOS, "<|end_of_text|>", "</s>")  # well-known names of the end-of-text token in others' tokenizers
# Flags of a special token in `tokenizer.json`: matched exactly, without surrounding white space, before any normalizer.
APART = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def special_ids(backend: Backend) -> dict[str, int]:
    """The special tokens by name. An ordinary token with such a name is not one, as a text can produce it."""
    return {token.content: int(i) for i, token in sorted(backend.get_added_tokens_decoder().items()) if token.special}


def end_by_name(specials: dict[str, int]) -> str | None:
    """The first of the well-known names among `specials`."""
    return next((name for name in END_OF_TEXT if name in specials), None)


def end_of_text(backend: Backend) -> int | None:
    """The id of the end-of-text token: the one recorded by `mark_end`, otherwise by the well-known names, or None."""
    specials = special_ids(backend)
    name = _marked(backend) or end_by_name(specials)
    return None if name is None else specials.get(name)


def mark_end(name: str, token_id: int) -> dict[str, Any]:
    """A post-processor for `tokenizer.json` that adds nothing to a text but lists `name`: it records the end-of-text token in
    the file itself, whose format has no key for it."""
    first, second = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first],
        "pair": [first, second],
        "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]}},
    }


def _marked(backend: Backend) -> str | None:
    if backend.post_processor is None:
        return None
    found = json.loads(backend.post_processor.__getstate__())
    listed = list(found.get("special_tokens", {})) if found["type"] == "TemplateProcessing" else []
    if len(listed) == 1 and found == mark_end(listed[0], found["special_tokens"][listed[0]]["ids"][0]):
        return str(listed[0])
    return None
