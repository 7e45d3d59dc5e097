"""Documents, and reading them from files that may be damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lehr.config.sources import TextType
from lehr.data.lines import LONGEST, lines
from lehr.data.rows import no_text, parsed, unicode
from lehr.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Document:
    """One text, and what is known of it.

    `parent` is the id of the document from which it was cut, if any; splits are decided by the parent. `text_type` says which
    rules apply to it; `url`, `license` (where it differs from its source's) and `language` (an ISO 639-1 code that
    the data gave) are "" where unknown. `metadata` is what else its file says of it, such as the stars of a repository.
    """

    id: str
    source: str
    text: str
    parent: str = ""
    text_type: TextType = "prose"
    url: str = ""
    license: str = ""
    language: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The id that decides the split: all chunks of a document are in the same one."""
        return self.parent or self.id


def read_jsonl(path: str | Path, source: str, longest: int = LONGEST) -> Iterator[Document]:
    """The documents of a JSON-lines file, plain or compressed. A missing or empty id becomes SOURCE-LINE.

    Raises UserError, naming file and line, for a line that is not a JSON object with a `text`, for invalid UTF-8, for whatever
    `lehr.data.lines.lines` refuses, and for a source without documents.
    """
    path = Path(path)
    found = 0
    for number, raw in lines(path, longest):
        yield document_of(raw, f"{path}:{number}", source, number)
        found += 1
    if not found:
        raise UserError(f"source {source!r} is empty", where=path, remedy="add documents to it, or remove it from the recipe")


def document_of(raw: bytes, where: str, source: str, number: int) -> Document:
    """The document of line `number`. Raises Damaged as `read_jsonl` does."""
    row = parsed(raw, where)
    if not isinstance(row.get("text"), str):
        raise no_text("text", where)
    id_ = "" if row.get("id") is None else str(row["id"])
    # Chunks of a document with an empty id would count as without a parent, and could go to different splits.
    name = id_ if id_.strip() else f"{source}-{number}"
    return Document(unicode(name, "id", where), source, unicode(row["text"], "text", where))


def chunk(document: Document, characters: int) -> Iterator[Document]:
    """Cut a document longer than `characters` at the last paragraph, line or sentence end before that length; 0: no cut."""
    text = document.text
    if not characters or len(text) <= characters:
        yield document
        return
    start = number = 0
    while start < len(text):
        end = min(len(text), start + characters)
        if end < len(text):
            end = _cut_before(text, start + characters // 2, end)
        yield replace(document, id=f"{document.id}#{number}", text=text[start:end], parent=document.id)
        start, number = end, number + 1


def _cut_before(text: str, low: int, high: int) -> int:
    for mark in ("\n\n", "\n", ". ", " "):
        place = text.rfind(mark, low, high)
        if place >= 0:
            return place + len(mark)
    return high


def write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write JSON lines in gzip without a time stamp: equal rows give equal bytes, and so equal digests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, compresslevel=3, filename="") as f:
        for row in rows:
            f.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
