"""Data: sources, filters, mixes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat
from lehr.config.mix import Mix
from lehr.config.names import Name
from lehr.config.sources import Source

LANGUAGES = ("en", "la", "it", "fr", "de", "es", "pt", "nl")  # that the filter distinguishes: lehr.data.lexicon


class Filters(Config):
    """Thresholds of the document filters, after Gopher and C4; see `lehr.data.rules` for each rule."""

    languages: list[str] = ["en"]  # kept; some of LANGUAGES, and "unknown" for all others
    min_words: NonNegative = 30
    mean_word_length: Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)] = [2.5, 10.0]
    min_alphabetic_words: Fraction = 0.7
    max_duplicate_lines: Fraction = 0.3
    max_top_bigram: Fraction = 0.08
    min_stop_words: NonNegative = 2  # of the document's own language; in English Gopher's eight
    max_line_characters: Positive = 1000  # code only
    repeat_period: Positive = 13  # OLMo 2 section 3.1: periods 1..13 ...
    repeat_times: Positive = 32  # ... that repeat 32 times or more
    more: list[str] = []  # the user's own, after these: `module:function`, called as f(text, text_type) -> reason or None
    decontaminate_tasks: list[str] | None = None  # tasks whose texts must not occur in documents; left out: all built-in ones
    decontaminate_ngram: Positive = 10  # words
    decontaminate_hits: Positive = 1  # a document is dropped from this many n-grams shared with a task's examples on
    held_back_hits: Positive = 8  # and from this many shared with held-back documents, which are long: a run of 17 words
    boilerplate_documents: Positive = 4  # an n-gram of held-back text in more training documents than this is boilerplate
    chunk_characters: NonNegative = 6000  # longer documents are cut at a paragraph near this length; 0: never

    @model_validator(mode="after")
    def _ordered(self) -> Filters:
        low, high = self.mean_word_length
        if low >= high:
            raise ValueError(f"mean_word_length={self.mean_word_length} is an empty range; write the smaller number first")
        return self


class Data(Config):
    sources: dict[Name, Source] = Field(min_length=1)
    filters: Filters = Filters()
    mixes: dict[Name, Mix] = Field(min_length=1)
    dev_share: Fraction = 0.02  # of the documents, by hash of the parent document
    held_out_share: Fraction = 0.03

    @model_validator(mode="after")
    def _told_apart(self) -> Data:
        names = dict[str, str]()  # sources become file names, and some file systems do not distinguish `Wiki` from `wiki`
        for name in self.sources:
            if (other := names.setdefault(name.casefold(), name)) != name:
                raise ValueError(f"sources.{name}: {other!r} is the same name on some file systems; choose another")
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Data:
        if self.dev_share + self.held_out_share >= 1:
            shares = f"{self.dev_share} + {self.held_out_share}"
            raise ValueError(f"dev_share: dev_share + held_out_share = {shares} leave nothing to train on; lower them")
        return self
