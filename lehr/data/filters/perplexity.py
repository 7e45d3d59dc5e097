"""Perplexity under an n-gram language model."""

from __future__ import annotations

import math

from lehr.config.filters.learned import PerplexityFilter
from lehr.data.document import Document
from lehr.data.filter_models import ngram_model, score_name
from lehr.data.verdict import Drop, Filter, Keep


def make(config: PerplexityFilter) -> Filter:
    """Raises UserError for a model that is missing or damaged."""
    model, name = ngram_model(config.model, config.normalise), score_name(config)

    def judge(document: Document) -> Keep | Drop:
        perplexity = model.perplexity(document.text)
        if math.isnan(perplexity):
            return Drop("no words")
        scores = {name: perplexity}
        if config.at_most is not None and perplexity > config.at_most:
            return Drop("high perplexity", scores)
        if config.at_least is not None and perplexity < config.at_least:
            return Drop("low perplexity", scores)
        return Keep(scores)

    return judge
