"""Data: sources, filters, mixes."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive
from lehr.config.decontamination import Decontamination
from lehr.config.deduplication import Deduplication
from lehr.config.filters import Filter
from lehr.config.governance import Policy
from lehr.config.mix import Mix
from lehr.config.names import Name, StepName
from lehr.config.shards import Shards
from lehr.config.sources import Source, with_path
from lehr.config.text_models import TextModel, names_file


class Data(Config):
    """`filters` run in the order of their table. A filter's `kind` is its name where it is left out; null removes one that was
    inherited."""

    sources: dict[Name, Source] = Field(min_length=1)
    policy: Policy | None = None  # which licences and reviews a source must have
    chunk_characters: NonNegative = 0  # longer documents are cut at a paragraph near this length; 0: documents stay whole
    models: dict[StepName, TextModel] = {}  # trained first, for the filters that name them
    filters: dict[Name, Filter] = {}
    deduplication: Deduplication = Deduplication()
    decontamination: Decontamination = Decontamination()
    mixes: dict[Name, Mix] = Field(min_length=1)
    shards: Shards = Shards()
    dev_share: Fraction = 0.02  # of the documents, by hash of the parent document
    held_out_share: Fraction = 0.03
    most_held_back: Positive = 10_000  # documents of each of the two; what their shares are beyond it is for training
    processes: NonNegative = 0  # that prepare documents and tokenize; 0: one for each core, or one where there is little to do
    pods: NonNegative = 0  # on Flyte, that have a share of the files each in every pass over them; 0: the stage's own pod alone

    @field_validator("filters", mode="before")
    @classmethod
    def _named(cls, filters: Any) -> Any:
        if not isinstance(filters, dict):
            return filters
        told = {name: value for name, value in filters.items() if value is not None}
        return {name: {"kind": name, **value} if isinstance(value, dict) else value for name, value in told.items()}

    @field_validator("sources", mode="before")
    @classmethod
    def _placed(cls, sources: Any) -> Any:
        return {name: with_path(each) for name, each in sources.items()} if isinstance(sources, dict) else sources

    @model_validator(mode="after")
    def _told_apart(self) -> Data:
        names = dict[str, str]()  # sources become file names, and some file systems do not distinguish `Wiki` from `wiki`
        for name in self.sources:
            if (other := names.setdefault(name.casefold(), name)) != name:
                raise ValueError(f"sources.{name}: {other!r} is the same name on some file systems; choose another")
        return self

    @model_validator(mode="after")
    def _sources_of_filters(self) -> Data:
        for name, each in self.filters.items():
            if strange := [source for source in each.sources if source not in self.sources]:
                known = ", ".join(sorted(self.sources))
                raise ValueError(f"filters.{name}.sources: there is no source {strange[0]!r}; sources are: {known}")
        return self

    @model_validator(mode="after")
    def _cleared(self) -> Data:
        for name, source in self.sources.items():
            if self.policy and (why := self.policy.objection(source.license, source.review)):
                raise ValueError(f"sources.{name}: {why}; remove the source, or change its entry after a review")
        return self

    @model_validator(mode="after")
    def _sources_of_models(self) -> Data:
        for name, each in self.models.items():
            for source in each.sources:
                if source not in self.sources:
                    known = ", ".join(sorted(self.sources))
                    raise ValueError(f"models.{name}: there is no source {source!r}; sources are: {known}")
        return self

    @model_validator(mode="after")
    def _models_of_filters(self) -> Data:
        kinds = {"classifier": "classifier", "toxicity": "classifier", "perplexity": "ngrams"}
        for name, each in self.filters.items():
            model = getattr(each, "model", "")
            if not model or names_file(model):
                continue
            if model not in self.models:
                known = ", ".join(sorted(self.models)) or "none"
                raise ValueError(f"filters.{name}.model: there is no model {model!r}; data.models are: {known}")
            if self.models[model].kind != kinds[each.kind]:
                raise ValueError(f"filters.{name}.model: {model!r} is of kind {self.models[model].kind}; name another")
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Data:
        if self.dev_share + self.held_out_share >= 1:
            shares = f"{self.dev_share} + {self.held_out_share}"
            raise ValueError(f"dev_share: dev_share + held_out_share = {shares} leave nothing to train on; lower them")
        return self
