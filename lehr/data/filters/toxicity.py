"""Hateful, abusive and profane text, by sentence."""

from __future__ import annotations

from collections.abc import Callable

from lehr.config.filters.learned import ToxicityFilter
from lehr.data.document import Document
from lehr.data.filter_models import classifier
from lehr.data.phrases import Phrases
from lehr.data.sentence_cuts import sentences
from lehr.data.verdict import Drop, Filter, Keep

TOXIC = "toxic"


def make(config: ToxicityFilter) -> Filter:
    """Raises UserError for a model or a file of words that is missing or damaged."""
    probability: Callable[[str], float] = classifier(config.model, config.label) if config.model else lambda text: 0.0
    phrases = Phrases.read(config.file) if config.file else Phrases([])

    def judge(document: Document) -> Keep | Drop:
        said, toxic, words, highest = 0, 0, 0, 0.0
        for sentence in sentences(document.text, config.longest_sentence):
            found, score = phrases.count(sentence), probability(sentence)
            said, words, highest = said + 1, words + found, max(highest, score)
            toxic += bool(found) or (bool(config.model) and score >= config.sentence_probability)
        share = toxic / said if said else 0.0
        scores = {"toxicity.share": share, "toxicity.sentences": float(toxic)}
        scores |= {"toxicity.highest": highest} if config.model else {}
        scores |= {"toxicity.words": float(words)} if config.file else {}
        held = ((share, config.max_share), (toxic, config.max_sentences), (words, config.max_words))
        too_much = any(most is not None and value > most for value, most in held)
        return Drop(TOXIC, scores) if too_much else Keep(scores)

    return judge
