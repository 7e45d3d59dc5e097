"""Filters that hold a learned score against a threshold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Fraction, NonNegative, Positive, PositiveFloat
from lehr.config.filters.base import FilterConfig

Finite = Annotated[float, Field(allow_inf_nan=False)]


class ClassifierFilter(FilterConfig):
    """Keep documents to which a classifier gives a probability of at least `at_least` of being positive (OLMo 2, section 4.3).

    `model` is a name of `data.models`, a folder that such a stage wrote, or a fastText model (`.bin`), of which `label` is the
    positive label, with or without `__label__`."""

    kind: Literal["classifier"]
    model: str
    named: str = ""  # what its scores are called; left out: the model's name
    label: str = ""
    at_least: Fraction


class PerplexityFilter(FilterConfig):
    """Keep documents whose perplexity per word, under an n-gram language model, is in a range (Granite 3.0, section 3.1).

    `model` is a name of `data.models`, a folder that such a stage wrote, or an ARPA file (`.arpa`, `.arpa.gz`), to which words
    are given as `normalise` says; a trained model has its own rule."""

    kind: Literal["perplexity"]
    model: str
    named: str = ""  # what its scores are called; left out: the model's name
    normalise: Literal["none", "plain"] = "none"
    at_most: PositiveFloat | None = None
    at_least: PositiveFloat | None = None

    @model_validator(mode="after")
    def _in_order(self) -> PerplexityFilter:
        _check_range(self.at_least, self.at_most)
        return self


class ScoreFilter(FilterConfig):
    """Keep documents by a score that something else gives, such as FineWeb-Edu's classifier (OLMo 2, section 4.3).

    `field` is where the document's metadata has it (`edu.score` is the key `score` in `edu`); `function` is `module:function`,
    called as f(texts) with a list and returning a number for each. Documents without a score are dropped or kept."""

    kind: Literal["score"]
    field: str = ""
    function: str = ""
    at_least: Finite | None = None
    at_most: Finite | None = None
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_origin(self) -> ScoreFilter:
        if bool(self.field) == bool(self.function):
            raise ValueError("a score comes from `field` or from `function`; name one of them")
        if self.function and ":" not in self.function:
            raise ValueError(f"function={self.function!r} is not module:function")
        _check_range(self.at_least, self.at_most)
        return self


class ToxicityFilter(FilterConfig):
    """Drop documents with too much hateful, abusive or profane text, found sentence by sentence (Granite 3.0, section 3.1).

    A sentence is toxic if the classifier `model` (as of a `classifier` filter) gives it at least `sentence_at_least`, or if it
    has a word or phrase of the file `words`, one a line. A document is dropped if more than `at_most_share` of its sentences
    are toxic, or more than `at_most_sentences`, or if its words of that file are more than `at_most_words`."""

    kind: Literal["toxicity"]
    model: str = ""
    label: str = ""
    sentence_at_least: Fraction = 0.5
    words: str = ""
    at_most_share: Fraction | None = None
    at_most_sentences: NonNegative | None = None
    at_most_words: NonNegative | None = None
    longest_sentence: Positive = 1000  # characters: text without an end of sentence is cut there

    @model_validator(mode="after")
    def _complete(self) -> ToxicityFilter:
        if not (self.model or self.words):
            raise ValueError("nothing finds toxic sentences; name a classifier as `model`, a file as `words`, or both")
        if self.at_most_share is None and self.at_most_sentences is None and self.at_most_words is None:
            raise ValueError("no threshold; give at_most_share, at_most_sentences or at_most_words")
        if self.at_most_words is not None and not self.words:
            raise ValueError("at_most_words: there is no file `words` to count; name one")
        return self


def _check_range(low: float | None, high: float | None) -> None:
    if low is None and high is None:
        raise ValueError("no threshold; give at_least, at_most or both")
    if low is not None and high is not None and low > high:
        raise ValueError(f"at_least={low:g} is above at_most={high:g}: nothing would be kept; exchange them")
