"""Chat templates as other programs get them."""

from __future__ import annotations

import re

_TAG = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def has_generation(template: str) -> bool:
    """Whether the template marks the assistant's own text by transformers' tag `generation`."""
    return _TAG.search(template) is not None


def without_generation(template: str) -> str:
    """The same template without the tag, which other programs may not know; it renders the same text."""
    return _TAG.sub(lambda m: f"{{%{m[1]} {'endif' if m[2] else 'if true'} {m[3]}%}}", template)
