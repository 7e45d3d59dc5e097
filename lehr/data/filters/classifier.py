"""Quality, or whatever a classifier was trained to tell."""

from __future__ import annotations

from lehr.config.filters.learned import ClassifierFilter
from lehr.data.document import Document
from lehr.data.filter_models import classifier
from lehr.data.verdict import Drop, Filter, Keep


def make(config: ClassifierFilter) -> Filter:
    """Raises UserError for a model that is missing or damaged."""
    probability = classifier(config.model, config.label)

    def judge(document: Document) -> Keep | Drop:
        found = probability(document.text)
        scores = {"classifier.probability": found}
        return Keep(scores) if found >= config.min_probability else Drop("low classifier score", scores)

    return judge
