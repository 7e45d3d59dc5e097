"""Filters that hold a learned score against a threshold."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lehr.config.base import Fraction, NonNegative, Positive, PositiveFloat
from lehr.config.filters.base import FilterConfig, ordered

Finite = Annotated[float, Field(allow_inf_nan=False)]


class ClassifierFilter(FilterConfig):
    """Keep documents that a classifier finds positive with a probability of at least `min_probability` (OLMo 2, section 4.3).

    `model` is a name of `data.models`, a folder that such a stage wrote, or a fastText model (`.bin`), of which `label` is the
    positive label, with or without `__label__`."""

    files: ClassVar[tuple[str, ...]] = ("model",)

    kind: Literal["classifier"] = "classifier"
    model: str
    label: str = ""
    min_probability: Fraction


class PerplexityFilter(FilterConfig):
    """Keep documents whose perplexity per word, under an n-gram language model, is in a range (Granite 3.0, section 3.1).

    `model` is a name of `data.models`, a folder that such a stage wrote, or an ARPA file (`.arpa`, `.arpa.gz`), to which words
    are given as `normalise` says; a trained model has its own rule."""

    files: ClassVar[tuple[str, ...]] = ("model",)

    kind: Literal["perplexity"] = "perplexity"
    model: str
    normalise: Literal["none", "plain"] = "none"
    min_perplexity: PositiveFloat | None = None
    max_perplexity: PositiveFloat | None = None

    @model_validator(mode="after")
    def _in_order(self) -> PerplexityFilter:
        _check_range(self, "perplexity")
        return self


class ScoreFilter(FilterConfig):
    """Keep documents by a score that something else gives, such as FineWeb-Edu's classifier (OLMo 2, section 4.3).

    `field` is where the document's metadata has it (`edu.score` is the key `score` in `edu`); `function` is `module:function`,
    called as f(texts) with a list and returning a number for each. Documents without a score are dropped or kept."""

    kind: Literal["score"] = "score"
    field: str = ""
    function: str = ""
    min_score: Finite | None = None
    max_score: Finite | None = None
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_origin(self) -> ScoreFilter:
        if bool(self.field) == bool(self.function):
            raise ValueError("a score comes from `field` or from `function`; name one of them")
        if self.function and ":" not in self.function:
            raise ValueError(f"function={self.function!r} is not module:function")
        _check_range(self, "score")
        return self


class ToxicityFilter(FilterConfig):
    """Drop documents with too much hateful, abusive or profane text, found sentence by sentence (Granite 3.0, section 3.1).

    A sentence is toxic if the classifier `model` (as of a `classifier` filter) gives it at least `sentence_probability`, or if
    it has a word or phrase of the list `file`, one a line. A document is dropped if more than the share `max_share` of its
    sentences are toxic, or more than `max_sentences`, or if it has more than `max_words` of the list."""

    files: ClassVar[tuple[str, ...]] = ("model", "file")

    kind: Literal["toxicity"] = "toxicity"
    model: str = ""
    label: str = ""
    sentence_probability: Fraction = 0.5
    file: str = ""
    max_share: Fraction | None = None
    max_sentences: NonNegative | None = None
    max_words: NonNegative | None = None
    longest_sentence: Positive = 1000  # characters: text without an end of sentence is cut there

    @model_validator(mode="after")
    def _complete(self) -> ToxicityFilter:
        if not (self.model or self.file):
            raise ValueError("nothing finds toxic sentences; name a classifier as `model`, a list of words as `file`, or both")
        if self.max_share is None and self.max_sentences is None and self.max_words is None:
            raise ValueError("no threshold; give max_share, max_sentences or max_words")
        if self.max_words is not None and not self.file:
            raise ValueError("max_words: there is no `file` of words to count; name one")
        return self


def _check_range(config: FilterConfig, score: str) -> None:
    low, high = f"min_{score}", f"max_{score}"
    if getattr(config, low) is None and getattr(config, high) is None:
        raise ValueError(f"no threshold; give {low}, {high} or both")
    ordered(config, low, high)
