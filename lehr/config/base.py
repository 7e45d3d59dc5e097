"""The base of every configuration model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_LARGEST = 3.4e38  # fp32's largest number, rounded down


class Config(BaseModel):
    """Strict and plain: no coercion, no unknown keys, no types that Flyte's type engine would lose in transport."""

    model_config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants", validate_default=True)


def _in_a_tensor(value: float) -> float:
    """Refuse a number that overflows fp32 now, instead of in the first step."""
    if value > _LARGEST:
        raise ValueError(f"{value:g} is more than {_LARGEST:g}, the largest number of fp32; lower it")
    return value


Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_in_a_tensor)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_in_a_tensor)]
Fraction = Annotated[float, Field(ge=0, le=1)]

Reported = dict[str, Any]  # of a `reported` key: facts about a released model that no code uses


def without_reported(value: Any) -> Any:
    """A dumped configuration without its `reported` tables, at any depth: they do not change a result."""
    if isinstance(value, dict):
        return {key: without_reported(inner) for key, inner in value.items() if key != "reported"}
    return [without_reported(inner) for inner in value] if isinstance(value, list) else value
