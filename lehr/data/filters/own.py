"""A filter of the user's own."""

from __future__ import annotations

from collections.abc import Callable

from lehr.config.filters.own import OwnFilter
from lehr.data.document import Document
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.plugins import resolve


def make(config: OwnFilter) -> Filter:
    """Raises UserError if there is no such function."""
    function: Callable[[str, str], str | None] = resolve("filter", config.function, {})

    def own(document: Document) -> Keep | Drop:
        reason = function(document.text, document.text_type)
        return Drop(reason) if reason else Keep()

    return own
