"""Perplexity under an n-gram language model."""

from __future__ import annotations

import math

from lehr.config.filters.learned import PerplexityFilter
from lehr.data.document import Document
from lehr.data.filter_models import ngram_model
from lehr.data.verdict import Drop, Filter, Keep


def make(config: PerplexityFilter) -> Filter:
    """Raises UserError for a model that is missing or damaged."""
    model = ngram_model(config.model, config.normalise)

    def judge(document: Document) -> Keep | Drop:
        perplexity = model.perplexity(document.text)
        if math.isnan(perplexity):
            return Drop("no words")
        scores = {"perplexity.perplexity": perplexity}
        if config.max_perplexity is not None and perplexity > config.max_perplexity:
            return Drop("high perplexity", scores)
        if config.min_perplexity is not None and perplexity < config.min_perplexity:
            return Drop("low perplexity", scores)
        return Keep(scores)

    return judge
