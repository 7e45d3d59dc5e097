"""Readers of supplied documents: `inputs` lists the files of a source, `read` streams the documents of one of them, so that
files may be read by several processes. A module of each format."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from lehr.artifacts.artifact import sha256_text
from lehr.config.sources import FilesSource
from lehr.data.damage import Damage, Damaged
from lehr.data.document import Document
from lehr.data.readers.formats import format_of
from lehr.data.readers.listing import Input, inputs
from lehr.data.readers.reading import Reading
from lehr.runtime.errors import UserError

__all__ = ["Damage", "Damaged", "Input", "documents", "fingerprint", "inputs", "read"]
_MODULES = {"code": "text"}  # of formats that have none of their own name


def read(source_name: str, source: FilesSource, one: Input, damage: Damage) -> Iterator[Document]:
    """The documents of one input, in its order. What they are depends on the source and the input alone.

    Damage goes to `damage`, which raises it where it stops the stage. Raises UserError for a missing file and a missing
    package, InfraError as the store does.
    """
    path = one.local()
    reading = Reading(source_name, source, one, path, damage)
    try:
        found = "code" if one.repository else format_of(source, one.where, path)
        module = import_module(f"lehr.data.readers.{_MODULES.get(found, found)}")
        yield from module.documents(reading, found)
    except Damaged as error:  # of the whole file: what is left of it is lost
        damage.met(error)


def documents(source_name: str, source: FilesSource, damage: Damage) -> Iterator[Document]:
    """The documents of all inputs, one after another. Raises UserError as `inputs` and `read` do, and for a source without
    documents."""
    found = False
    for one in inputs(source, damage):
        for document in read(source_name, source, one, damage):
            found = True
            yield document
    if not found:
        passed = f": {sum(damage.counts.values()):,} damaged" if damage.counts else ""
        remedy = "add documents to it, or remove it from the recipe"
        raise UserError(f"source {source_name!r} is empty{passed}", where=source.path, remedy=remedy)


def fingerprint(source: FilesSource) -> str:
    """What tells the documents of a source's inputs from any others: their names below its path, and their contents. Raises
    UserError as `inputs` does."""
    found = inputs(source, Damage(stops=source.damaged == "stop"))
    return sha256_text("".join(f"{one.name}\0{one.digest()}\0{one.license}\n" for one in found))
