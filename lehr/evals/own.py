"""Tasks of one's own: a YAML file of Lehr's (lehr.config.own_task), or one of lm-eval's (lehr.evals.lm_eval_yaml).

A task is named by its file's path, which ends in .yaml; scores and records of contamination know it by its name, and by its
identity, in which its definition and its data are hashed: the same files elsewhere are the same task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from lehr.artifacts.artifact import sha256_text
from lehr.config.judged_checks import UNIDENTIFIED, ClassifiedCheck, metric_names
from lehr.config.mistakes import explain
from lehr.config.own_task import SINCE_SOURCES, TASK_ENDS, OwnTask
from lehr.data.filter_models import content
from lehr.evals.judged import digest_of_check
from lehr.evals.lm_eval_yaml import is_lm_eval, read_lm_eval, translated
from lehr.evals.own_examples import made
from lehr.evals.parts import text_metrics
from lehr.evals.task import Own
from lehr.post.jinja import compiled
from lehr.post.sets.files import Row, files_of, rows
from lehr.runtime.errors import UserError
from lehr.runtime.yaml_file import read_mapping

_REMEDY = "give the path of a task's YAML file (docs/evaluation.md)"
Split = Literal["dev", "held_out"]


@dataclass(frozen=True)
class Loaded:
    """A task with its examples. `files`: the YAML files and the data that it is made of; `digest`: of what all of them say."""

    task: OwnTask
    examples: tuple[Own, ...]
    files: tuple[Path, ...]
    digest: str


def is_own(task: str) -> bool:
    """Whether a task's name is the path of a YAML file."""
    return task.endswith(TASK_ENDS)


def name_of(task: str) -> str:
    """A task's name in scores and in what people read; of all others the name itself."""
    return loaded(task).task.name if is_own(task) else task


def identity(task: str) -> str:
    """What tells a task from all others, wherever its files lie; of all others the name itself."""
    if not is_own(task):
        return task
    found = loaded(task)
    return f"{found.task.name}@{found.digest[:16]}"


def check(task: str, key: str = "") -> None:
    """Raises UserError, with file and row, for a task that cannot be scored: every row is put into its templates."""
    if not Path(task).is_file():
        raise UserError(f"there is no file {task}", where=key, remedy=f"correct the path; {_REMEDY}")
    loaded(task)


def split_of(task: str) -> Split:
    return loaded(task).task.split


def by_paragraph(task: str) -> bool:
    """Whether a training document counts as holding the task's texts for a whole paragraph alone."""
    return is_own(task) and loaded(task).task.decontaminate == "paragraphs"


def check_splits(task: str, asked: Sequence[str], key: str = "") -> None:
    """Raises UserError for a split that the task does not have: it has one."""
    own = split_of(task)
    if wrong := [split for split in asked if split != own]:
        what = f"{name_of(task)} is of the split {own}, not {wrong[0]}"
        raise UserError(what, where=key, remedy=f"ask for `splits: [{own}]`, or set `split: {wrong[0]}` in {task}")


def metrics_of(task: str) -> list[str]:
    """The names of a task's metrics, the first one first."""
    said = loaded(task).task
    if said.kind == "choice":
        return list(dict.fromkeys([said.judged_by, "acc", "acc_per_char", "acc_per_byte", "acc_per_token"]))
    if said.kind == "generation":
        ways = said.extract or {"": []}
        checks = (said.metrics or {}).items()
        names = [name for check, args in checks for name in metric_names(check, args, said.samples)]
        return [f"{name}@{way}" if way else name for way in ways for name in names]
    if said.kind == "text":
        return list(text_metrics(said.source is not None, said.domain is not None))
    return ["answer_bits_per_byte", "answer_nats", "greedy_match"]


def names_elsewhere(task: str) -> bool:
    """Whether a task's file names another by its whole path, or from where a command was started, as lm-eval's may."""
    path = Path(task).absolute()
    if not is_lm_eval(path):
        raw = read_mapping(path, "task", _REMEDY)
        classifier = ((raw.get("metrics") or {}).get("classified") or {}).get("path", "")
        return any(Path(place).is_absolute() for place in (raw["data"], (raw.get("shots") or {}).get("path", ""), classifier))
    raw, files = read_lm_eval(path)
    named = [found for file in files for found in _texts(read_mapping(file, "task", _REMEDY).get("include"))]
    data = _texts((raw.get("dataset_kwargs") or {}).get("data_files"))
    return any(Path(place).is_absolute() for place in named) or not all(
        (path.parent / place).exists() and not Path(place).is_absolute() for place in data
    )


def _texts(value: Any) -> list[str]:
    """The texts in a value of YAML."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for one in inner for text in _texts(one)]


def loaded(task: str) -> Loaded:
    """A task's file, read again after it or its data changed. Raises UserError for whatever is wrong in them."""
    path = Path(task).absolute()
    definition, yaml_files = _definition(path)
    data, shots = _data_files(definition, path)
    marks = tuple(_mark(file) for file in (*yaml_files, *map(Path, (*data, *shots)), *_classifier_files(definition)))
    return _loaded(str(path), marks)


def _mark(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError:  # in an object store, or missing, which its reader says
        return str(file), 0, 0
    return str(file), found.st_size, found.st_mtime_ns


@lru_cache(maxsize=32)
def _loaded(task: str, marks: tuple[tuple[str, int, int], ...]) -> Loaded:
    path = Path(task)
    definition, yaml_files = _definition(path)
    found = [*_rows(definition.data, definition.data_split)]
    if not found:
        raise UserError("the task has no rows", where=definition.data, remedy="give its data some")
    _check_templates(definition, path)
    known = _known(definition, path)
    examples = tuple(made(definition, found, _pool(definition, found, path), known))
    unset = {key: True for key in SINCE_SOURCES if key not in definition.model_fields_set}
    said = definition.model_dump(
        mode="json", exclude={"data": True, "shots": {"path"}, "name": True, "metrics": UNIDENTIFIED, **unset}
    )
    data = [one for files in _sources(definition) for one in files]
    judges = [known] if known else []
    digest = sha256_text(json.dumps([said, [one.digest() for one in data], *judges], sort_keys=True))
    files = (*yaml_files, *(Path(one.where) for one in data if not one.version), *_classifier_files(definition))
    return Loaded(definition, examples, files, digest)


def _known(task: OwnTask, path: Path) -> dict[str, str]:
    """The digest of each check that a model makes, with the content of a classifier's files. Raises UserError where such a
    file is missing."""
    found = {}
    for name, check in task.judged_checks().items():
        try:
            files = content(check.path) if isinstance(check, ClassifiedCheck) and check.path else {}
        except UserError as error:
            raise UserError(f"metrics.{name}.path: {error.what}", where=f"{path}: {error.where}", remedy=error.remedy) from None
        found[name] = digest_of_check(check, files)
    return found


def _classifier_files(task: OwnTask) -> list[Path]:
    """Those of Lehr's own classifier that a task names."""
    places = [Path(check.path) for check in task.judged_checks().values() if isinstance(check, ClassifiedCheck) and check.path]
    return [place / name if place.is_dir() else place for place in places if place.exists() for name in content(str(place))]


def _pool(task: OwnTask, own: list[Row], path: Path) -> list[Row]:
    if not task.shots:
        return []
    if task.shots.rows:
        return [Row(f"{path}: shots.rows.{n}", n + 1, values) for n, values in enumerate(task.shots.rows)]
    return [*_rows(task.shots.path, task.shots.split)] if task.shots.path else own


def _rows(path: str, split: str) -> list[Row]:
    return [row for file in files_of(path, split) for row in rows(file)]


def _sources(task: OwnTask) -> list[list[Any]]:
    shots = [files_of(task.shots.path, task.shots.split)] if task.shots and task.shots.path else []
    return [files_of(task.data, task.data_split), *shots]


def _data_files(task: OwnTask, path: Path) -> tuple[list[str], list[str]]:
    try:
        data, *shots = _sources(task)
    except UserError as error:
        raise UserError(error.what, where=f"{path}: {error.where}", remedy=error.remedy) from None
    for one in (*data, *(one for files in shots for one in files)):
        if not one.version and not Path(one.where).is_file():
            raise UserError(
                f"there is no file {one.where}", where=path, remedy="correct the path, which is relative to this file"
            )
    return [one.where for one in data], [one.where for files in shots for one in files]


def _check_templates(task: OwnTask, path: Path) -> None:
    """Raises UserError, with the YAML file, for a template that is no Jinja."""
    for key in ("prompt", "target", "choices", "text", "description", "alone", "source", "domain"):
        said = getattr(task, key)
        for one in said if isinstance(said, list) else [said]:
            try:
                compiled(one if isinstance(one, str) else "", strict=True)
            except UserError as error:
                raise UserError(f"{key}: {error.what}", where=path, remedy=error.remedy) from None


def _definition(path: Path) -> tuple[OwnTask, list[Path]]:
    """The task that a YAML file defines, its paths absolute, and the YAML files that say so."""
    values = read_lm_eval(path) if is_lm_eval(path) else None
    if values is not None:
        raw, files = translated(path, *values)
    else:
        raw, files = read_mapping(path, "task", _REMEDY), [path]
    raw = {"name": path.stem, **raw}
    try:
        task = OwnTask.model_validate(raw)
    except ValidationError as error:
        raise explain(error, OwnTask, raw, {}, str(path)) from None
    shots = task.shots.model_copy(update={"path": _placed(task.shots.path, path.parent)}) if task.shots else None
    metrics = dict(task.metrics) if task.metrics else None
    if metrics and (classified := metrics.get("classified", {})).get("path"):
        metrics["classified"] = {**classified, "path": _placed(classified["path"], path.parent)}
    update = {"data": _placed(task.data, path.parent), "shots": shots, "metrics": metrics}
    return task.model_copy(update=update), files


def _placed(place: str, base: Path) -> str:
    return place if not place or "://" in place else str((base / place).absolute())
