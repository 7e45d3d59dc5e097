"""A filter of the user's own."""

from __future__ import annotations

from typing import Literal

from lehr.config.filters.base import FilterConfig


class OwnFilter(FilterConfig):
    """`module:function`, called as f(text, text_type); it returns the reason to drop the document, or None."""

    kind: Literal["own"] = "own"
    function: str
