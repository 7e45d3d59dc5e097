"""How conversations become text, and those that a user supplies: conversations, preferences, prompts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from lehr.config.base import Config, Fraction, NonNegative, Positive
from lehr.config.decontamination import Action, LeakedParagraphs
from lehr.config.names import Name
from lehr.data.template_file import read_template

TEMPLATES = ("lehr", "tulu", "granite", "chatml", "zephyr")  # built-in ones: lehr.post.templates
FILE_END = ".jinja"

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")


class SuppliedSource(Config):
    """A file, a folder of files (a Hugging Face data set's too) or a pattern such as `chats/*.jsonl`, on this machine or in a
    bucket: JSON lines, a JSON list, or Parquet."""

    path: str  # relative to the file in which it is written; or s3://BUCKET/...
    license: str = ""
    origin: str = ""  # where it comes from, for the card
    split: str = "train"  # of a folder whose files are divided into splits, by their names
    bad_rows: Literal["stop", "drop"] = "stop"  # a row that cannot be read ends the run, or is counted and left out


class ConversationsSource(SuppliedSource):
    """Conversations: `messages`, ShareGPT's `conversations`, `prompt` and `completion` or, for a vote, `completions`, or
    Alpaca's `instruction` and `output`. The shape is recognised."""

    kind: Literal["conversations"]
    max_turns: NonNegative = 0  # of a user; longer conversations are dropped (Stable LM 2 section 3.1: eight); 0: any
    # Answers that a prompt must have, of which more than half agree: one of these is kept (OLMo 2 section 5: five); 0: no vote.
    majority_of: NonNegative = 0
    vote_on: Literal["number", "boxed", "text"] = "number"  # the last number, the last \\boxed{}, or all of it
    too_long: Literal["drop", "cut"] = "drop"  # more tokens than max_length: dropped, or cut after an earlier answer


class PreferencesSource(SuppliedSource):
    """Preferences: `chosen` and `rejected` (text, or messages), with a `prompt` or with the prompt's messages in both; or
    a `prompt` with rated `answers`, of which the best is chosen."""

    kind: Literal["preferences"]
    rejected: Literal["random", "worst"] = "random"  # of rated answers: one of the rest (OLMo 2 section 5), or the worst
    ties: Literal["stop", "drop"] = "drop"  # ratings of both answers are equal
    min_chosen_rating: float | None = None  # lower ones are dropped (Stable LM 2 section 3.2: 8)
    held_out_share: Fraction = 0.05  # of the prompts, by hash: scored, never trained on


class PromptsSource(SuppliedSource):
    """Prompts for roll-outs: a `prompt` with a `verifier` and its `arguments`."""

    kind: Literal["prompts"]


ChatSource = Annotated[ConversationsSource | PreferencesSource | PromptsSource, Field(discriminator="kind")]


def _checked(amount: int | str) -> int | str:
    if isinstance(amount, int):
        if amount < 1:
            raise ValueError(f"{amount} is no number of rows; write 1 or more, `all`, or a share such as 40%")
        return amount
    match = _PERCENT.fullmatch(amount)
    if amount != "all" and (match is None or not 0 < float(match[1]) <= 100):
        raise ValueError(f"{amount!r} is no amount; write a number of rows, `all`, or a share such as 40%")
    return amount


# How much of a set: a number of rows (more than it has: some again), `all`, or a share of the step's samples.
Amount = Annotated[int | str, AfterValidator(_checked)]


def share_of(amount: int | str) -> float | None:
    """The share that an amount such as `40%` is, or None for others."""
    match = _PERCENT.fullmatch(amount) if isinstance(amount, str) else None
    return float(match[1]) / 100 if match else None


class Chat(Config):
    """The template that the first step of SFT gives its model, which all models after it inherit; and the sources of
    conversations, preferences and prompts."""

    template: str = ""  # lehr, tulu, granite, chatml, zephyr, or a .jinja file; empty: the tokenizer's own, else lehr
    jinja: str = ""  # the file's text, filled in when the recipe is resolved
    sources: dict[Name, ChatSource] = {}
    decontaminate_tasks: list[str] | None = None  # tasks whose texts must not occur in rows; left out: all built-in ones
    decontaminate_ngram: Positive = 10  # words
    decontaminate_hits: Positive = 1  # a row is dropped from this many shared n-grams on
    decontaminate_paragraphs: LeakedParagraphs | None = LeakedParagraphs()  # ... or for a whole paragraph; null: n-grams alone
    decontaminate_action: Action = "remove"  # flag: such rows stay; the scores of what they hold say so

    @model_validator(mode="after")
    def _told_apart(self) -> Chat:
        names = dict[str, str]()
        for name in self.sources:
            if (other := names.setdefault(name.casefold(), name)) != name:
                raise ValueError(f"sources.{name}: {other!r} is the same name on some file systems; choose another")
        return self

    @field_validator("template")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value not in TEMPLATES and not value.endswith(FILE_END):
            raise ValueError(f"there is no chat template {value!r}; give one of {', '.join(TEMPLATES)}, or a {FILE_END} file")
        return value


def resolve_template(values: dict[str, Any]) -> None:
    """Fill in `chat.jinja` of a recipe's `values` from the file that `chat.template` names: what a run stores needs no other
    file. A recipe that has it is already resolved. Raises UserError if the file is absent or no text."""
    chat = values.get("chat")
    path = chat.get("template") if isinstance(chat, dict) else None
    if isinstance(chat, dict) and isinstance(path, str) and path.endswith(FILE_END) and not chat.get("jinja"):
        chat["jinja"] = read_template(Path(path))
