"""Who has cleared which data for what: a record of each source, and the policy that decides which may be used."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Config

Personal = Literal["none", "masked", "present", "unknown"]


class Review(Config):
    """The clearance of a source: what Granite 3.0 records of each (section 3), and who has said so when."""

    content: str = ""  # what it is
    owner: str
    use: str  # what it may be used for
    classification: str = ""  # public, internal, confidential
    restrictions: str = ""
    acquired: str = ""  # how
    personal_information: Personal
    reviewer: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]  # YYYY-MM-DD


class Policy(Config):
    """What a source must be to be used. Licences are compared as they are written, whatever their case; `*` stands for anything
    (`CC-BY*`). Without `licenses` any is allowed that is not `refused`.

    Code has a licence of each file, where it is known (Granite 3.0 section 3): documents with one that is not allowed are
    dropped; those without go by their source's, or are dropped too with `unlicensed: drop`."""

    licenses: list[str] = []
    refused: list[str] = []
    reviewed: bool = False  # every source needs a review
    personal_information: list[Personal] = ["none", "masked", "present", "unknown"]  # of a reviewed source
    unlicensed: Literal["source", "drop"] = "source"

    def allows(self, license_: str) -> bool:
        """Whether a licence is allowed."""
        named = license_.casefold()

        def stands_in(patterns: list[str]) -> bool:
            return any(fnmatchcase(named, pattern.casefold()) for pattern in patterns)

        return not stands_in(self.refused) and (not self.licenses or stands_in(self.licenses))

    def objection(self, license_: str, review: Review | None) -> str:
        """Why a source with this licence and review may not be used; "" if it may."""
        if not self.allows(license_):
            allowed = ", ".join(self.licenses) or f"all but {', '.join(self.refused)}"
            return f"license={license_!r} is not one that data.policy allows ({allowed})"
        if review is None:
            return "it has no review, which data.policy demands" if self.reviewed else ""
        if review.personal_information not in self.personal_information:
            allowed = ", ".join(self.personal_information) or "nothing"
            return f"its review says {review.personal_information!r} of personal information; data.policy allows {allowed}"
        return ""
