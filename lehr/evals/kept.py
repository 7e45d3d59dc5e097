"""Scores of tasks that are done, kept beside an evaluation until all are: one that was killed goes on with the next task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lehr.artifacts.artifact import canonical, sha256_text, write_atomic
from lehr.distributed.ranks import Ranks
from lehr.evals.scores import EvaluateConfig
from lehr.evals.task import Items, Record

_FOLDER = "scored"


class KeptScores:
    """A file for each task and split in the stage's scratch folder, which is that of one model, one configuration and one
    version of the code, and is removed when the stage is done. Rank 0 reads and writes; every rank calls the same methods.

    A file counts only if it is whole and its key is that of the model, the settings, the ranks (which sampled answers depend
    on) and the examples; else the task is scored again."""

    def __init__(self, scratch: Path, ranks: Ranks, config: EvaluateConfig, frozen: str) -> None:
        self.folder, self.ranks = scratch / _FOLDER, ranks
        self._settings = canonical({**config.described(), **config.layout(), "frozen": frozen})

    def found(self, task: str, split: str, examples: str) -> list[Record] | None:
        """The records of a task that was scored before, of examples of that digest; the same on every rank."""
        own = self._read(self._key(task, split, examples)) if self.ranks.first else None
        rows = self.ranks.gather(own)[0]
        return None if rows is None else [_record(row) for row in rows]

    def keep(self, task: str, split: str, examples: str, records: Sequence[Record]) -> None:
        if not self.ranks.first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [{**r.model_dump(), "items": None if r.items is None else asdict(r.items)} for r in records]
        text = json.dumps(rows)
        key = self._key(task, split, examples)
        write_atomic(self._path(key), json.dumps({"key": key, "sha256": sha256_text(text), "records": text}))

    def _key(self, task: str, split: str, examples: str) -> str:
        return sha256_text(canonical([self._settings, task, split, examples]))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.json"

    def _read(self, key: str) -> list[dict[str, Any]] | None:
        try:
            said = json.loads(self._path(key).read_text(encoding="utf-8"))
            if said["key"] != key or sha256_text(said["records"]) != said["sha256"]:
                return None
            rows: list[dict[str, Any]] = json.loads(said["records"])
            for row in rows:
                _record(row)
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None
        return rows


def _record(row: dict[str, Any]) -> Record:
    items = row["items"]
    if items is not None:
        items = Items(**{**items, "names": [(source, domain) for source, domain in items["names"]]})
    return Record(**{**row, "items": items})
