"""How preference pairs are made: whose answers, and who says which is better."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat
from lehr.config.chat import Amount

ULTRAFEEDBACK = ("helpfulness", "truthfulness", "honesty", "instruction-following")  # OLMo 2 section 5


class Judge(Config):
    """A model elsewhere that rates answers from 1 to 5, aspect by aspect: any server of OpenAI's chat completions. A token that
    it asks for is in LEHR_JUDGE_TOKEN."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+/?$")]  # without a path: http://127.0.0.1:8000
    model: str = ""  # its name there; "": the first that the server names
    aspects: Annotated[list[str], Field(min_length=1)] = list(ULTRAFEEDBACK)
    max_new_tokens: Positive = 256  # of its reply
    concurrency: Positive = 16  # requests at once
    timeout_seconds: PositiveFloat = 120.0  # for one reply

    @field_validator("url")
    @classmethod
    def _bare(cls, value: str) -> str:
        return value.rstrip("/")


class Pairs(Config):
    """Preference pairs on generated prompts or one's own. By default answers of the step's parent, judged by the prompts'
    verifiers; in the reports a model judges answers of many models."""

    families: list[str] = []  # of generated prompts
    examples: dict[str, Amount] = {}  # prompts of one's own beside them: name of a source of prompts or conversations in `chat`
    prompts: NonNegative = 0  # generated ones that are trained on; a contrast trains nothing and needs none
    held_out_prompts: NonNegative = 0  # generated ones that are scored
    held_out_share: Fraction = 0.05  # of one's own prompts, by hash
    by: Literal["verifier", "judge", "model-gap", "perturbation"] = "verifier"
    pool: list[str] = []  # models that answer beside the parent, by name or artifact's address (OLMo 2 section 5: twenty)
    weaker: str = ""  # of `model-gap`: whose answers are rejected, the parent's being chosen (Granite 3.0 appendix B.3.2)
    judge: Judge | None = None
    samples: Positive = 3  # answers of each model to each prompt
    reference_answers: bool = False  # prefer the data's own answer if no sample passes; off-policy, so not the default
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56

    @property
    def only_scored(self) -> bool:
        """Whether no pairs are made to be trained on."""
        return not self.prompts and not self.examples

    @property
    def answered(self) -> bool:
        """Whether models answer: a perturbed answer is the data's own."""
        return self.by != "perturbation"
