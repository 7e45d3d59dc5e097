"""The filters of documents, each with its thresholds."""

from typing import Annotated

from pydantic import Field

from lehr.config.filters.base import FilterConfig
from lehr.config.filters.learned import ClassifierFilter, PerplexityFilter, ScoreFilter, ToxicityFilter
from lehr.config.filters.own import OwnFilter
from lehr.config.filters.pii import PiiFilter

Filter = Annotated[
    OwnFilter | ClassifierFilter | PerplexityFilter | ScoreFilter | ToxicityFilter | PiiFilter, Field(discriminator="kind")
]

__all__ = ["Filter", "FilterConfig"]
