"""Rows of the held-out documents and of preference pairs, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_rows
from lehr.runtime.seeds import uniform_hash

IN_LOOP_TEXTS = 24  # development documents for bits per byte during training
PROSE_CHARACTERS = 1500  # of each document: many short excerpts vary more than a few long ones


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The documents or pairs written by a stage. Raises UserError as `read_rows` does."""
    return read_rows(path, "run the stage that writes it again")


class HeldBack(NamedTuple):
    """A document's text, and the id of the document from which it was cut, or its own id."""

    text: str
    family: str


def held_back(corpus_folder: Path | None, split: str, seed: int) -> list[HeldBack]:
    """The real documents held back for `split` (dev or held_out), in an order decided by `seed`. Raises UserError if there are
    none."""
    if corpus_folder is None:
        raise UserError("this task needs the prepared corpus", remedy="give the folder that the prepare stage wrote")
    path = corpus_folder / f"{split}.jsonl.gz"
    rows = list(rows_of(path))
    if not rows:
        raise UserError(f"no {split} documents", where=path, remedy="raise data.dev_share and data.held_out_share, or add text")
    rows.sort(key=lambda r: uniform_hash(f"{seed}/{r['id']}"))
    return [HeldBack(str(r["text"]), f"{r['source']}/{family(r)}") for r in rows]


def family(row: Mapping[str, Any]) -> str:
    """The id of the document from which a prepared one was cut, or its own id."""
    return str(row.get("parent") or row["id"])


def prose_texts(corpus_folder: Path | None, split: str, seed: int, limit: int) -> list[HeldBack]:
    """The beginnings of at most `limit` held-back documents, for bits per byte."""
    return [HeldBack(cut(text, PROSE_CHARACTERS), family) for text, family in held_back(corpus_folder, split, seed)[:limit]]


def cut(text: str, characters: int) -> str:
    """As many first words of a text as fit; if it is too long, without leading white space."""
    if len(text) <= characters:
        return text
    begins = text.lstrip()
    return begins if len(begins) <= characters else begins[:characters].rsplit(None, 1)[0]
