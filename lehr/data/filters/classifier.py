"""Quality, or whatever a classifier was trained to tell."""

from __future__ import annotations

from lehr.config.filters.learned import ClassifierFilter
from lehr.data.document import Document
from lehr.data.filter_models import classifier, score_name
from lehr.data.verdict import Drop, Filter, Keep


def make(config: ClassifierFilter) -> Filter:
    """Raises UserError for a model that is missing or damaged."""
    probability, name = classifier(config.model, config.label), score_name(config)

    def judge(document: Document) -> Keep | Drop:
        scores = {name: probability(document.text)}
        return Keep(scores) if scores[name] >= config.at_least else Drop("low classifier score", scores)

    return judge
