"""What every filter of documents has."""

from __future__ import annotations

from lehr.config.base import Config
from lehr.config.sources import TextType


class FilterConfig(Config):
    """A filter of `data.filters`, whose kinds are told apart by `kind`. It looks at documents of `text_types`; empty: at all.

    Each kind K has a module lehr.data.filters.K whose `make(config)` is the filter.
    """

    kind: str
    text_types: list[TextType] = []
