"""The tokenizer: trained, or somebody else's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lehr.config.base import Config, Positive

MOST_TOKENS = 262_144  # tokens of a vocabulary


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
