"""Data: sources, filters, mixes, tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat, Reported
from lehr.config.mix import Mix
from lehr.config.names import Name

MOST_TOKENS = 262_144  # tokens of a vocabulary
LANGUAGES = ("en", "la", "it", "fr", "de", "es", "pt", "nl")  # that the filter distinguishes: lehr.data.lexicon


class JsonlSource(Config):
    """Documents from a JSON-lines file (plain, gzip, bzip2, xz): one object on each line with a `text` and optionally an
    `id`."""

    kind: Literal["jsonl"]
    path: str  # relative to the file in which it is written
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
    """Documents held by others, and where they are; to run the recipe, supply them and make the source one of kind jsonl.

    `reported` holds facts that no code uses: `tokens` as the report counts them, their `category` there, the `text_type`."""

    kind: Literal["external"]
    uri: Annotated[str, Field(pattern=r"^[a-z0-9]+://\S+$")]  # hf://: a data set of the Hugging Face hub; s3://: your own copy
    license: str
    supply: str  # what must be supplied
    reported: Reported = {}


Source = Annotated[JsonlSource | SyntheticSource | ExternalSource, Field(discriminator="kind")]


class Filters(Config):
    """Thresholds of the document filters, after Gopher and C4; see `lehr.data.filters` for each rule."""

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


class Tokenizer(Config):
    """A byte-level BPE. Without `path` it is trained from scratch on the kept documents, and every digit is one token. With
    `path` it is an existing one: a Hugging Face `tokenizer.json`, a folder that holds one, or a file of tiktoken ranks."""

    vocab_size: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0  # to train: 300 or more; with `path`: 0 accepts its own size
    training_characters: Positive = 4_000_000
    path: str = ""  # relative to the file in which it is written
    pattern: str = ""  # ranks: gpt2, cl100k, o200k, or the regular expression that splits a text into words
    special_tokens: dict[str, Annotated[int, Field(ge=0, lt=MOST_TOKENS)]] = {}  # ranks: name to id; the file has none
    eos: str = ""  # the end-of-text token, if neither a well-known name nor the files beside `path` tell it
    origin: str = ""  # an existing tokenizer that must be supplied

    @property
    def is_ranks(self) -> bool:
        """Whether `path` is a file of tiktoken ranks."""
        return self.path.endswith(".tiktoken")

    @model_validator(mode="after")
    def _trained_or_given(self) -> Tokenizer:
        if not self.path:
            for key in ("pattern", "special_tokens", "eos"):
                if getattr(self, key):
                    raise ValueError(f"{key}={getattr(self, key)!r} describes a file; give its path, or remove it")
            # The 256 bytes and five special tokens come first: with much less than 300 there is nothing to train.
            if self.vocab_size < 300:
                given = f"vocab_size={self.vocab_size}" if "vocab_size" in self.model_fields_set else "vocab_size: missing, it"
                raise ValueError(f"{given} must be 300 or more to train a tokenizer; set it, or give the path of one")
            return self
        # Compared by value, not by whether the key is given: a pinned recipe names every key.
        if self.training_characters != type(self).model_fields["training_characters"].default:
            raise ValueError(f"training_characters={self.training_characters}, but path gives a tokenizer; remove one of them")
        if self.is_ranks and not self.pattern:
            raise ValueError("pattern: missing, a file of ranks has none; set it to gpt2, cl100k, o200k or an expression")
        for key in () if self.is_ranks else ("pattern", "special_tokens"):
            if getattr(self, key):
                raise ValueError(f"{key} is for a .tiktoken file of ranks, a tokenizer.json has its own; remove it")
        if len(set(self.special_tokens.values())) < len(self.special_tokens):
            raise ValueError(f"special_tokens={self.special_tokens} give one id twice; give each its own")
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
