"""What every filter of documents has."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from lehr.config.base import Config
from lehr.config.sources import TextType

Count = Annotated[int, Field(ge=0)] | None  # None switches the rule off
Share = Annotated[float, Field(ge=0, le=1)] | None
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None  # of two counts: it may be more than 1


class FilterConfig(Config):
    """A filter of `data.filters`, whose kinds are told apart by `kind`. It looks at documents of `text_types` and of
    `sources`; empty: at all.

    Each kind K has a module lehr.data.filters.K whose `make(config)` is the filter. A key `min_NAME` or `max_NAME` is held
    against the score `K.NAME`, and null switches that rule off.
    """

    files: ClassVar[tuple[str, ...]] = ()  # those of its keys that name a file: in a fingerprint the file's content counts

    kind: str
    text_types: list[TextType] = []
    sources: list[str] = []


PROSE: list[TextType] = ["prose", "reference"]
CODE: list[TextType] = ["code"]


def ordered(config: Config, low: str, high: str) -> None:
    """Raises ValueError if the range from the key `low` to the key `high` is empty."""
    least, most = getattr(config, low), getattr(config, high)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{low}={least} is more than {high}={most}, and nothing passes; write the smaller number first")
