"""Rows of the held-out documents and of preference pairs, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_rows
from lehr.runtime.seeds import uniform_hash

IN_LOOP_TEXTS = 24  # development documents whose bits per byte are measured while a model is trained
PROSE_CHARACTERS = 1500  # of each document: many documents say more about a model than long ones


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The documents or pairs that a stage wrote. Raises UserError as `read_rows`."""
    return read_rows(path, "run the stage that writes it again")


class HeldBack(NamedTuple):
    """A document's text, and the id of the document that it was cut from: its own where it was not."""

    text: str
    family: str


def held_back(corpus_folder: Path | None, split: str, seed: int) -> list[HeldBack]:
    """The real documents that were held back for `split` (dev or held_out), in an order drawn by `seed`."""
    if corpus_folder is None:
        raise UserError("this task needs the prepared corpus", remedy="give the folder that the prepare stage wrote")
    path = corpus_folder / f"{split}.jsonl.gz"
    rows = list(rows_of(path))
    if not rows:
        raise UserError(f"no {split} documents", where=path, remedy="raise data.dev_share and data.held_out_share, or add text")
    rows.sort(key=lambda r: uniform_hash(f"{seed}/{r['id']}"))
    return [HeldBack(str(r["text"]), f"{r['source']}/{family(r)}") for r in rows]


def family(row: Mapping[str, Any]) -> str:
    """The id of the document that a prepared one was cut from: its own where it was not."""
    return str(row.get("parent") or row["id"])


def prose_texts(corpus_folder: Path | None, split: str, seed: int, limit: int) -> list[HeldBack]:
    """The beginnings of at most `limit` held-back documents, for bits per byte."""
    return [HeldBack(cut(text, PROSE_CHARACTERS), family) for text, family in held_back(corpus_folder, split, seed)[:limit]]


def cut(text: str, characters: int) -> str:
    """The first words of a text, as many as fit; white space before them is no part of it where the text is too long."""
    if len(text) <= characters:
        return text
    begins = text.lstrip()
    return begins if len(begins) <= characters else begins[:characters].rsplit(None, 1)[0]
