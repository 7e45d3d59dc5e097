"""Decontamination: what training documents must not share with evaluation texts and with held-back documents."""

from __future__ import annotations

from lehr.config.base import Config, Fraction, Positive


class Decontamination(Config):
    """Training documents that share n-grams of words with evaluation tasks or with held-back documents are dropped.

    OLMo 2 drops documents of which 10 % or more of the n-grams are those of a task's example (section 4.3, FLAN):
    `overlap: 0.1`. Here all examples of a task count together, which drops no fewer."""

    tasks: list[str] | None = None  # whose texts must not occur in documents; left out: all built-in ones
    ngram: Positive = 10  # words
    hits: Positive = 1  # a document is dropped from this many n-grams shared with a task's examples on
    overlap: Fraction = 0.0  # ... if they are at least this share of its own n-grams
    held_back_hits: Positive = 8  # and from this many shared with held-back documents, which are long: a run of 17 words
    boilerplate_documents: Positive = 4  # an n-gram of held-back text in more training documents than this is boilerplate
