"""What each reader is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.config.sources import FilesSource
from lehr.data.damage import Damage, Damaged
from lehr.data.document import Document
from lehr.data.lines import LONGEST
from lehr.data.readers.listing import Input
from lehr.data.rows import unicode


@dataclass(frozen=True)
class Reading:
    """An input that is being read: the source's name and configuration, the file, and `path`, where it or its copy lies."""

    source_name: str
    source: FilesSource
    input: Input
    path: Path
    damage: Damage

    def id(self, inside: str | int = "") -> str:
        """The id of a document that has none: the source's name, the file's unless the source is one file, and its place
        `inside` the file. A byte of a name that is not UTF-8 is written as an escape."""
        parts = [self.source_name, self.input.name, str(inside)]
        return printable("-".join(part for part in parts if part))

    def where(self, number: int) -> str:
        """A line, for messages."""
        return f"{self.input.where}:{number}"

    def document(self, id_: str, text: str, where: str, **known: Any) -> Document:
        """A document of this source, `known` being other fields of it. Raises Damaged for one that is too long, or that can't
        be written as UTF-8."""
        if len(text) > LONGEST:
            raise too_long(where)
        text_type = known.pop("text_type", self.source.text_type)
        unicode(text, "text", where)
        metadata: Mapping[str, Any] = known.pop("metadata", {})
        return Document(id_, self.source_name, text, text_type=text_type, metadata=metadata, **known)


def too_long(where: str) -> Damaged:
    remedy = "cut it into smaller documents, or set damaged: skip"
    return Damaged("too long", f"a document of more than {LONGEST >> 20} MiB", where=where, remedy=remedy)


@contextmanager
def panics(where: str, reason: str) -> Iterator[None]:
    """Packages that are written in Rust end in a BaseException where they meet what they did not expect: it is Damaged here."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        what = f"its reader gave up ({error})"
        raise Damaged(reason, what, where=where, remedy="set damaged: skip, or leave it out") from None


def printable(name: str) -> str:
    """A file's name as text that can be written as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
