"""Decontamination: what training documents must not share with evaluation texts and with held-back documents."""

from __future__ import annotations

from lehr.config.base import Config, Positive


class Decontamination(Config):
    """Training documents that share n-grams of words with evaluation tasks or with held-back documents are dropped (OLMo 2
    section 4.3)."""

    tasks: list[str] | None = None  # whose texts must not occur in documents; left out: all built-in ones
    ngram: Positive = 10  # words
    hits: Positive = 1  # a document is dropped from this many n-grams shared with a task's examples on
    held_back_hits: Positive = 8  # and from this many shared with held-back documents, which are long: a run of 17 words
    boilerplate_documents: Positive = 4  # an n-gram of held-back text in more training documents than this is boilerplate
