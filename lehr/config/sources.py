"""Where documents come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Config, Positive, Reported
from lehr.config.governance import Review

TextType = Literal["prose", "code", "reference"]  # reference: lists and tables


class JsonlSource(Config):
    """Documents from a JSON-lines file (plain, gzip, bzip2, xz): one object on each line with a `text` and optionally an
    `id`."""

    kind: Literal["jsonl"]
    path: str  # relative to the file in which it is written
    text_type: TextType = "prose"  # which quality rules apply
    license: str
    origin: str = ""  # where the text comes from, for the card
    review: Review | None = None


class SyntheticSource(Config):
    """Documents from a generator of `lehr.data.synthetic`: only its training problems, never dev or held-out ones."""

    kind: Literal["synthetic"]
    generator: Literal["arithmetic", "word_problems"]
    documents: Positive
    license: str = "CC0-1.0"
    review: Review | None = None


class ExternalSource(Config):
    """Documents held by others, and where they are; to run the recipe, supply them and make the source one of kind jsonl.

    `reported` holds facts that no code uses: `tokens` as the report counts them, their `category` there, the `text_type`."""

    kind: Literal["external"]
    uri: Annotated[str, Field(pattern=r"^[a-z0-9]+://\S+$")]  # hf://: a data set of the Hugging Face hub; s3://: your own copy
    license: str
    supply: str  # what must be supplied
    review: Review | None = None
    reported: Reported = {}


Source = Annotated[JsonlSource | SyntheticSource | ExternalSource, Field(discriminator="kind")]
