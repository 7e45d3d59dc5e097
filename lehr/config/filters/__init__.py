"""The filters of documents, each with its thresholds."""

from typing import Annotated

from pydantic import Field

from lehr.config.filters.base import FilterConfig
from lehr.config.filters.learned import ClassifierFilter, PerplexityFilter, ScoreFilter, ToxicityFilter
from lehr.config.filters.origin import AntivirusFilter, StackExchangeFilter, UrlBlocklistFilter
from lehr.config.filters.own import OwnFilter
from lehr.config.filters.pii import PiiFilter
from lehr.config.filters.quality import C4Filter, FineWebFilter, GopherQualityFilter, GopherRepetitionFilter
from lehr.config.filters.repositories import GraniteCodeFilter, StarcoderFilter
from lehr.config.filters.text import LanguageFilter, LineLengthFilter, RepeatedNgramFilter, WordsFilter

Text = WordsFilter | LanguageFilter | RepeatedNgramFilter | LineLengthFilter
Quality = GopherQualityFilter | GopherRepetitionFilter | C4Filter | FineWebFilter
Code = GraniteCodeFilter | StarcoderFilter
Origin = StackExchangeFilter | UrlBlocklistFilter | AntivirusFilter
Learned = ClassifierFilter | PerplexityFilter | ScoreFilter | ToxicityFilter
Filter = Annotated[Text | Quality | Code | Origin | Learned | PiiFilter | OwnFilter, Field(discriminator="kind")]

__all__ = ["Filter", "FilterConfig"]
