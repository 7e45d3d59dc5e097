"""Personal information in documents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lehr.config.base import NonNegative
from lehr.config.filters.base import FilterConfig

Found = Literal["email", "phone", "ip"]


class PiiFilter(FilterConfig):
    """Mask e-mail addresses, telephone numbers and IP addresses by OLMo 1's special tokens, and drop documents with more than
    `max_found` of them; null: drop none. 5 as in Dolma's configuration. See `lehr.data.personal`."""

    kind: Literal["pii"] = "pii"
    find: list[Found] = Field(["email", "phone", "ip"], min_length=1)
    max_found: NonNegative | None = 5
    mask: bool = True
