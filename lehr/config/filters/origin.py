"""Filters of what is known of a document besides its text: votes, stars, addresses; and of malware in it."""

from __future__ import annotations

from typing import ClassVar, Literal

from lehr.config.base import Positive, PositiveFloat
from lehr.config.filters.base import CODE, FilterConfig
from lehr.config.sources import TextType


class StackExchangeFilter(FilterConfig):
    """OLMo 2 section 4.3: questions with an accepted answer, by the votes of question and answer. `*_key` name the keys of a
    document's metadata; a document of which they are not given is dropped, or passes with `missing: keep`. Scores:
    `stackexchange.question_votes`, `.answer_votes`."""

    kind: Literal["stackexchange"] = "stackexchange"
    min_question_votes: int | None = 3
    min_answer_votes: int | None = 5
    accepted_answer: bool = True  # drop what has none
    missing: Literal["drop", "keep"] = "drop"
    question_votes_key: str = "question_votes"
    answer_votes_key: str = "answer_votes"
    accepted_answer_key: str = "accepted_answer"


class UrlBlocklistFilter(FilterConfig):
    """Drops documents whose address is on a list: a line a domain, with all domains below it, or an address with a path, with
    all that begins with it. Lines of hosts files (`0.0.0.0 DOMAIN`) do too; `#` begins a comment. Plain or gzip.

    A list takes eight bytes of memory an entry; one with more than `most_entries` is refused. Documents without an address
    pass.
    """

    files: ClassVar[tuple[str, ...]] = ("file",)

    kind: Literal["url_blocklist"] = "url_blocklist"
    file: str
    most_entries: Positive = 50_000_000


class AntivirusFilter(FilterConfig):
    """Granite 3.0 section 3: drops what ClamAV calls malware. `clamdscan` asks the machine's daemon (milliseconds a document);
    `clamscan` reads its database anew for each document (seconds). With auto it is the daemon where it answers."""

    kind: Literal["antivirus"] = "antivirus"
    text_types: list[TextType] = CODE
    command: Literal["auto", "clamdscan", "clamscan"] = "auto"
    database: str = ""  # of clamscan: a file or folder; empty: the machine's own
    timeout_seconds: PositiveFloat = 120.0
