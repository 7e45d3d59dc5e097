"""JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

from lehr.config.sources import Format
from lehr.data.damage import Damaged
from lehr.data.document import Document
from lehr.data.lines import lines
from lehr.data.readers.reading import Reading
from lehr.data.readers.rows import document
from lehr.data.rows import parsed


def documents(reading: Reading, found: Format) -> Iterator[Document]:
    """A document of each line. Raises Damaged for a file that cannot be read on."""
    shown = reading.input.where
    for number, raw in lines(reading.path, shown=shown, met=reading.damage.met):
        where = reading.where(number)
        try:
            made = document(reading, parsed(raw, where), number, where)
        except Damaged as error:
            reading.damage.met(error)
            continue
        yield made
