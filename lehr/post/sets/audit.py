"""What became of the rows of supplied sets: counts by set, and a record of each row that was left out."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lehr.data import leaks
from lehr.data.decontaminate import Decontaminator
from lehr.data.leaks import LEAKS, Found
from lehr.post.sets.files import Row, text_of

DROPPED, SETS = "dropped.jsonl.gz", "sets.json"


@dataclass
class SetCounts:
    """The rows of one set: read = kept + dropped. `drawn` of them are trained on in an epoch, some perhaps several times;
    `tokens` and `trained_tokens` are of these, `share` is theirs of all sets' trained tokens."""

    origin: str = ""
    license: str = ""
    shape: str = ""
    files: int = 0
    read: int = 0
    kept: int = 0
    cut: int = 0
    drawn: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    share: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)

    def lost(self) -> str:
        """The three most frequent reasons for which rows were dropped, to be put behind a line; empty if none was."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.most_common(3))
        return f"; dropped: {reasons} (lehr dropped)" if reasons else ""

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "dropped": dict(sorted(self.dropped.items()))}


class Audit:
    """Counts the rows of each set, and writes those that are left out, with their reasons, beside the artifact's data."""

    def __init__(self, out: Path) -> None:
        self.sets: dict[str, SetCounts] = {}
        self._out = out
        self._stack = ExitStack()
        self._file, self._leaks = (self._opened(out / name) for name in (DROPPED, LEAKS))

    def _opened(self, path: Path) -> gzip.GzipFile:
        """No time and no name in the header: equal rows give equal bytes."""
        raw = self._stack.enter_context(path.open("wb"))
        file = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
        return self._stack.enter_context(file)

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def drop(self, source: str, row: Row, reason: str) -> None:
        """Count and record a row that is left out."""
        self.sets[source].dropped[reason] += 1
        said = {"id": str(row.values.get("id") or row.where), "source": source, "reason": reason, "text": text_of(row.values)}
        self._file.write((json.dumps(said) + "\n").encode())

    def leaked(self, source: str, row: Row, index: Decontaminator, held: Found) -> bool:
        """Record a row that holds evaluation examples, which scores are to say; whether it may stay."""
        for said in leaks.rows(index, held, (source, str(row.values.get("id") or row.where))):
            self._leaks.write((json.dumps(said) + "\n").encode())
        return leaks.kept(held, index.action)

    def close(self) -> None:
        """Write the counts, with each set's share of the trained tokens."""
        whole = sum(counts.trained_tokens for counts in self.sets.values())
        for counts in self.sets.values():
            counts.share = counts.trained_tokens / whole if whole else 0.0
        text = json.dumps({name: counts.row() for name, counts in self.sets.items()}, indent=1)
        (self._out / SETS).write_text(text, encoding="utf-8")
