"""Flyte's types of our models, each made once."""

from __future__ import annotations

import copy
import functools

from flytekit.core.type_engine import TypeEngine
from flytekit.extras.pydantic_transformer.transformer import PydanticTransformer
from flytekit.models.types import LiteralType
from pydantic import BaseModel


class RememberingTransformer(PydanticTransformer):
    """flytekit's own, with a memory. Without it each task draws the schema of the whole recipe and of each of its sections
    anew for each of its parameters: 2.5 s of processor time before anything happens, measured."""

    def get_literal_type(self, t: type[BaseModel]) -> LiteralType:
        """Flyte's type of a pydantic model. A copy: flytekit writes the tag of a union into what it gets."""
        return copy.copy(self._made(t))

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def _made(self, t: type[BaseModel]) -> LiteralType:
        return super().get_literal_type(t)


def remember_types() -> None:
    """Let flytekit ask us for the types of pydantic models. Costs nothing the second time."""
    if not isinstance(TypeEngine.get_transformer(BaseModel), RememberingTransformer):
        TypeEngine.register_additional_type(RememberingTransformer(), BaseModel, override=True)
