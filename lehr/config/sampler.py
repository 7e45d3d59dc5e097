"""An inference engine elsewhere that answers a step's prompts, instead of the model in training itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lehr.config.base import Config, Positive, PositiveFloat


class SamplerElsewhere(Config):
    """A server of OpenAI's completions that takes and returns token ids: `lehr serve` or vLLM. Before each roll-out the weights
    are written below `weights`, and the server is told to load them. A token that it asks for is in LEHR_SAMPLER_TOKEN."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+/?$")]  # without a path: http://127.0.0.1:8000
    weights: Annotated[str, Field(min_length=1)]  # a folder that is the same for the trainer and the server
    engine: Literal["lehr", "vllm"] = "lehr"
    model: str = ""  # its name there; "": the first that the server names
    concurrency: Positive = 64  # requests at once
    timeout_seconds: PositiveFloat = 600.0  # for one answer, and for loading weights

    @field_validator("url")
    @classmethod
    def _bare(cls, value: str) -> str:
        return value.rstrip("/")
