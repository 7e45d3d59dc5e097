"""Decontamination: what training documents must not share with evaluation texts and with held-back documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Config, Fraction, Positive

# What becomes of a contaminated document. Either way it is written down which example it holds, and scores say so.
Action = Literal["remove", "flag"]


class LeakedParagraphs(Config):
    """A document with a whole paragraph of an evaluation text is contaminated, as OLMo 1 decontaminates for Paloma (section
    2.4): a paragraph is a line, equal up to case and white space. A Bloom filter finds them; what it takes for one of them by
    mistake is told apart by its 64-bit hash before anything is removed, so `false_positives` costs time and no documents."""

    min_words: Positive = 13  # shorter ones, and those of punctuation alone, do not count: Dolma's limit for Paloma
    false_positives: Annotated[float, Field(gt=0, lt=1)] = 1e-5  # of other paragraphs, looked up a second time


class Decontamination(Config):
    """Training documents that share n-grams of words with evaluation tasks or with held-back documents are dropped.

    OLMo 2 drops documents of which 10 % or more of the n-grams are those of a task's example (section 4.3, FLAN):
    `overlap: 0.1`. Here all examples of a task count together, which drops no fewer."""

    tasks: list[str] | None = None  # whose texts must not occur in documents; left out: all built-in ones
    action: Action = "remove"  # flag: contaminated documents stay; the scores of what they hold say so
    ngram: Positive = 10  # words
    hits: Positive = 1  # a document is dropped from this many n-grams shared with a task's examples on
    overlap: Fraction = 0.0  # ... if they are at least this share of its own n-grams
    paragraphs: LeakedParagraphs | None = LeakedParagraphs()  # null: n-grams alone
    held_back_hits: Positive = 8  # and from this many shared with held-back documents, which are long: a run of 17 words
    boilerplate_documents: Positive = 4  # an n-gram or paragraph of held-back text in more training documents than this is none
