"""Which sources a pretraining stage reads, how much of each, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Positive, PositiveFloat, Reported
from lehr.config.names import Name


class CurriculumPhase(Config):
    """A part of a stage with shares of its own. `share`: of the stage's tokens; shares of all phases need not sum to one."""

    share: PositiveFloat
    weights: dict[Name, PositiveFloat] = Field(min_length=1)


class Mix(Config):
    """How much of each source is drawn. A source stands in one of four tables:

    - `weights`: shares of what the other tables leave; they need not sum to one.
    - `tokens`: so many tokens.
    - `epochs`: so many times all of it; 0.5 is half of it, 4.0 four times.
    - `sized`: its weight is its number of tokens to the power 1 / `temperature` (Conneau et al. 2020, section 3.1: their
      alpha): 1.0 draws in proportion to size, higher ones raise small sources. In place of `weights`.

    `caps` are the most tokens drawn from a source of `weights` or `sized`, and `max_epochs` the most repetitions of any. What
    that takes from a source the others get with `short: share`; with `short: stop` it is an error, said before training.
    `curriculum` is in place of all these tables: phases one after another, each with weights of its own; a source that two of
    them read goes on where it stood.

    `reported` holds facts about a released model's mix that no code uses: `epochs`, how often one pass of it reads each source.
    """

    weights: dict[Name, PositiveFloat] = {}
    tokens: dict[Name, Positive] = {}
    epochs: dict[Name, PositiveFloat] = {}
    sized: list[Name] = []
    temperature: PositiveFloat = 1.0
    caps: dict[Name, Positive] = {}
    max_epochs: PositiveFloat = 8.0
    short: Literal["stop", "share"] = "stop"
    curriculum: list[CurriculumPhase] = []
    reported: Reported = {}

    @property
    def sources(self) -> list[str]:
        """The sources that it reads, in a stable order."""
        if self.curriculum:
            return list(dict.fromkeys(name for phase in self.curriculum for name in phase.weights))
        return [*self.weights, *self.sized, *self.tokens, *self.epochs]

    def named(self) -> Iterator[tuple[str, str]]:
        """Each source with the key under which it stands."""
        tables: Mapping[str, Mapping[str, object]] = {"weights": self.weights, "tokens": self.tokens, "epochs": self.epochs}
        for key, table in tables.items():
            yield from ((f"{key}.{name}", name) for name in table)
        yield from ((f"sized.{name}", name) for name in self.sized)
        for number, phase in enumerate(self.curriculum):
            yield from ((f"curriculum.{number}.weights.{name}", name) for name in phase.weights)

    @model_validator(mode="after")
    def _each_once(self) -> Mix:
        if self.curriculum:
            others = [key for key in ("weights", "tokens", "epochs", "sized", "caps") if getattr(self, key)]
            if others:
                raise ValueError(f"{others[0]}: a mix with a curriculum has its weights in the phases; remove one of them")
            return self
        names = self.sources
        if not names:
            raise ValueError("weights: no source; name those to draw from")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} stands in two tables of the mix; leave it in one")
        for name in self.caps:
            if name not in self.weights and name not in self.sized:
                raise ValueError(f"caps.{name}: a cap is for a source of `weights` or `sized`; add it there, or remove the cap")
        if self.temperature != 1.0 and not self.sized:
            raise ValueError("temperature: it is for sources in `sized`; name some, or remove it")
        if self.weights and self.sized:
            raise ValueError("sized: its sources and those of `weights` would share one rest in two ways; use one table")
        return self
