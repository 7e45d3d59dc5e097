"""Data: sources, filters, mixes, tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat, Reported
from lehr.config.mix import Mix


class JsonlSource(Config):
    """Documents from a JSON-lines file, `.gz` or plain: one object a line with a `text` and, if it has one, an `id`."""

    kind: Literal["jsonl"]
    path: str  # relative to the file that names it
    text_type: Literal["prose", "code", "reference"] = "prose"  # which quality rules apply
    license: str
    origin: str = ""  # where the text comes from, for the card


class SyntheticSource(Config):
    """Documents from a generator of `lehr.data.synthetic`: only its training problems, never dev or held-out ones."""

    kind: Literal["synthetic"]
    generator: Literal["arithmetic", "word_problems"]
    documents: Positive
    license: str = "CC0-1.0"


class ExternalSource(Config):
    """Documents that others hold, and where they are; to run the recipe, supply them and make the source one of kind jsonl.

    `reported` holds facts that nothing here executes: `tokens` as the report counts them, their `category` there, the
    `text_type`."""

    kind: Literal["external"]
    uri: Annotated[str, Field(pattern=r"^[a-z0-9]+://\S+$")]  # hf://: a data set of the Hugging Face hub; s3://: your own copy
    license: str
    supply: str  # what must be supplied
    reported: Reported = {}


Source = Annotated[JsonlSource | SyntheticSource | ExternalSource, Field(discriminator="kind")]


class Filters(Config):
    """Thresholds of the document filters, in the manner of Gopher and C4; see `lehr.data.filters` for each rule."""

    languages: list[str] = ["en"]
    min_words: NonNegative = 30
    mean_word_length: Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)] = [2.5, 10.0]
    min_alphabetic_words: Fraction = 0.7
    max_duplicate_lines: Fraction = 0.3
    max_top_bigram: Fraction = 0.08
    min_stop_words: NonNegative = 2
    max_line_characters: Positive = 1000  # code only
    repeat_period: Positive = 13  # OLMo 2 section 3.1: periods 1..13 ...
    repeat_times: Positive = 32  # ... that repeat 32 times or more
    more: list[str] = []  # of one's own, after these: `module:function`, called as f(text, text_type) -> reason or None
    decontaminate_tasks: list[str] | None = None  # whose texts no document may share; all built-in ones where it is left out
    decontaminate_ngram: Positive = 10  # words
    decontaminate_hits: Positive = 1  # n-grams shared with an evaluation task's examples from which a document is dropped
    held_back_hits: Positive = 8  # and with the documents held back for evaluation, which are long: a run of 17 words
    boilerplate_documents: Positive = 4  # an n-gram of held-back text in more training documents than this is a form's wording
    chunk_characters: Positive = 6000  # longer documents are cut at a paragraph near this length

    @model_validator(mode="after")
    def _ordered(self) -> Filters:
        low, high = self.mean_word_length
        if low >= high:
            raise ValueError(f"mean_word_length={self.mean_word_length} is an empty range; write the smaller number first")
        return self


class Tokenizer(Config):
    """A byte-level BPE trained from scratch on the kept documents; digits are single tokens."""

    vocab_size: Annotated[int, Field(ge=300, le=262_144)]
    training_characters: Positive = 4_000_000
    origin: str = ""  # a tokenizer that exists already and must be supplied
    path: str = ""  # of one that is there


class Data(Config):
    sources: dict[str, Source] = Field(min_length=1)
    filters: Filters = Filters()
    mixes: dict[str, Mix] = Field(min_length=1)
    dev_share: Fraction = 0.02  # of the documents, by hash of the parent document
    held_out_share: Fraction = 0.03

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Data:
        if self.dev_share + self.held_out_share >= 1:
            shares = f"{self.dev_share} + {self.held_out_share}"
            raise ValueError(f"dev_share: dev_share + held_out_share = {shares} leave nothing to train on; lower them")
        return self
