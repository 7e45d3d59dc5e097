"""Models of text that are trained for the filters of documents: `data.models`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat
from lehr.config.names import Name

_FILES = (".bin", ".arpa", ".gz")


def names_file(model: str) -> bool:
    """Whether a filter's `model` is a file or folder, and not a name of `data.models`."""
    return "/" in model or model.endswith(_FILES)


class ClassifierModel(Config):
    """A linear classifier on hashed word n-grams, of documents from `positive` and `negative` sources (names of
    `data.sources`). At most `training_characters` of each class are read, in equal parts from its sources' beginnings.

    `held_out` is the share of documents that it is measured on and not trained on, by hash of the document."""

    kind: Literal["classifier"]
    positive: list[Name] = Field(min_length=1)
    negative: list[Name] = Field(min_length=1)
    ngrams: Annotated[int, Field(ge=1, le=5)] = 2  # words: DCLM's classifier, which OLMo 2 takes, has 2
    buckets: Annotated[int, Field(ge=16, le=1 << 26)] = 1 << 20
    normalise: Literal["none", "plain"] = "plain"  # plain: no case, digits as 0, punctuation apart; none: words between blanks
    l2: PositiveFloat = 0.1  # penalty, in the weight of one document: see lehr.data.linear_training
    iterations: Positive = 200  # of L-BFGS, at most
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    training_characters: Positive = 100_000_000
    unit: Literal["document", "sentence"] = "document"  # what it is to judge: sentences for a `toxicity` filter

    @model_validator(mode="after")
    def _two_classes(self) -> ClassifierModel:
        if both := set(self.positive) & set(self.negative):
            raise ValueError(f"{sorted(both)[0]!r} is positive and negative; remove it from one of them")
        return self

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys([*self.positive, *self.negative]))


class NgramModel(Config):
    """An n-gram language model with interpolated modified Kneser-Ney smoothing, of at most `training_characters` of its
    sources, in equal parts from their beginnings.

    `prune` holds for each order the count up to which its n-grams are left out (0: none), as of KenLM's lmplz."""

    kind: Literal["ngrams"]
    train: list[Name] = Field(min_length=1)
    order: Annotated[int, Field(ge=2, le=6)] = 5
    prune: list[NonNegative] = [0, 0, 1]  # the last one holds for the orders above
    normalise: Literal["none", "plain"] = "plain"
    held_out: Fraction = 0.1
    training_characters: Positive = 20_000_000

    @model_validator(mode="after")
    def _prunable(self) -> NgramModel:
        if not self.prune or self.prune[0] != 0:
            raise ValueError(f"prune={self.prune}: no single word can be left out; begin with 0")
        if len(self.prune) > self.order or sorted(self.prune) != self.prune:
            raise ValueError(f"prune={self.prune}: one count an order, none below the one before it; correct them")
        return self

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(self.train))


TextModel = Annotated[ClassifierModel | NgramModel, Field(discriminator="kind")]
