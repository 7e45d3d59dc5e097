"""The whole recipe: its parts, checked against each other."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from lehr.config import checks
from lehr.config.mistakes import Mistakes
from lehr.config.parts import RecipeParts
from lehr.config.posttraining import with_names
from lehr.runtime.hardware import bf16_units, cpp_compiler


class Recipe(RecipeParts):
    """One run, from documents to a scored chat model, or from an existing model to a better one."""

    def pinned(self) -> Recipe:
        """This recipe with `auto` precision and compilation replaced by what this machine can do."""
        decided = {}
        if self.precision == "auto":
            decided["precision"] = "bf16" if bf16_units() else "fp32"
        if self.compile == "auto" and not cpp_compiler():
            decided["compile"] = "off"
        return self.model_copy(update=decided) if decided else self

    @field_validator("compile", mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        """YAML reads a bare `on` and `off` as booleans."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("posttraining", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return with_names(value)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        checks.beginning(self)  # first and alone: the other checks rely on it
        mistakes = []
        for check in checks.ALL:
            try:
                check(self)
            except ValueError as error:
                mistakes.append(str(error))
        if mistakes:
            raise Mistakes(mistakes)
        return self
