"""The last pass: a part's rows go to where they belong, as gzip members that are joined in the parts' order afterwards."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from lehr.data.document import Document
from lehr.data.preparation.filtering import dropped_row
from lehr.data.preparation.parts import Part
from lehr.data.preparation.rows import Row, Rows
from lehr.data.preparation.splitting import GONE, NAMES
from lehr.runtime.paths import beside

_LEVEL = 3
FATES = np.dtype([("split", "u1"), ("reason", "<u2")])  # of each kept row of a part; the reason counts where it is GONE


@dataclass(frozen=True)
class WritePart:
    """The work on one part. `reasons` are those that fates.npy numbers."""

    part: Part
    reasons: tuple[str, ...]
    rows: str  # the kind of the part's file that has its rows

    def done(self) -> bool:
        return self.part.file("written").is_file()

    def fetched(self) -> Self:
        return self

    def __call__(self) -> None:
        kinds = {**NAMES, GONE: "dropped.gz"}
        partial = {split: beside(self.part.file(name)) for split, name in kinds.items()}
        fates = np.load(self.part.file("fates.npy"), allow_pickle=False)
        with ExitStack() as stack:
            outs = {split: _Member(stack, path) for split, path in partial.items()}
            outs[GONE].write(Rows(self.part.file("dropped")))
            for row, split, reason in zip(
                Rows(self.part.file(self.rows)), fates["split"].tolist(), fates["reason"].tolist(), strict=True
            ):
                if split == GONE:
                    document = Document(row["id"], row["source"], row["text"])
                    outs[GONE].write([dropped_row(document, self.reasons[reason], row.get("scores", {}))])
                else:
                    outs[split].write([row])
        for split, name in kinds.items():
            partial[split].replace(self.part.file(name))
        self.part.file("written").touch()


class _Member:
    """A file with one gzip member, or an empty one: without a time stamp, so that equal rows are equal bytes."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stack, self._raw = stack, stack.enter_context(path.open("wb"))
        self._out: gzip.GzipFile | None = None

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._out is None:
                member = gzip.GzipFile(fileobj=self._raw, mode="wb", mtime=0, compresslevel=_LEVEL, filename="")
                self._out = self._stack.enter_context(member)
            self._out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def join(parts: Sequence[Part], kind: str, out: Path) -> None:
    """Write `out` from the members of `parts`. Of no rows at all it is an empty gzip file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        for part in parts:
            with part.file(kind).open("rb") as member:
                shutil.copyfileobj(member, file, 1 << 20)
        if not file.tell():
            file.write(gzip.compress(b"", _LEVEL, mtime=0))
