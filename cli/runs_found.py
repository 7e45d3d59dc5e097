"""Runs in a folder, by what they left there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST
from lehr.config import Recipe, load_recipe
from lehr.monitoring.watch.small_files import locked
from lehr.pipeline.graph import graph
from lehr.report.format import with_unit
from lehr.report.scores import ScoreRecord, read_records
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.metrics import metric
from lehr.runtime.yaml_file import read_mapping

_DEPTH = 3  # folders below the place that are looked into
_TOLERANCE_SECONDS = 2.0  # a copied run's files have the times of their copying, in any order


@dataclass(frozen=True)
class Run:
    """`state` is finished, stopped or at work; `when` the local time of the last change; `bytes` of all files."""

    folder: str
    recipe: str
    when: str
    state: str
    stages: int
    of_stages: int  # 0 where the recipe is damaged or of another version
    scores: str
    bytes: int


def runs(place: Path, *, default: bool = False) -> list[Run]:
    """The last one first. Raises UserError for a place that is no folder; the default one need not be there yet."""
    if str(place).startswith("s3:/"):
        where = str(place).replace("s3:/", "s3://", 1)
        raise UserError("only runs on this machine are listed", where=where, remedy="ask `lehr show` about one in a store")
    if not place.is_dir() and not (default and not place.exists()):
        raise UserError("there is no such folder", where=place, remedy="give a folder with runs, such as runs")
    found = [(_changed(folder), _run(folder)) for folder in _folders(place, _DEPTH)]
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]


def newest(place: Path) -> Path | None:
    """The folder of the run that was worked on last, one at work before all others; None where there is none."""
    found = [(locked(folder / ".lock"), _changed(folder), folder) for folder in _folders(place, _DEPTH)]
    return max(found, default=(False, 0.0, None), key=lambda run: run[:2])[2]


def _folders(place: Path, depth: int) -> Iterator[Path]:
    if (place / "recipe.yaml").is_file() and (place / "recipes").is_dir():
        yield place
        return
    try:
        inner = sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return
    for folder in inner if depth else ():
        yield from _folders(folder, depth - 1)


def _run(folder: Path) -> Run:
    recipe, nodes = _recipe(folder)
    name = recipe.name if recipe else _name(folder)
    here = {path.parent.name.rpartition("-")[0] for path in folder.glob(f"artifacts/*/{MANIFEST}")}
    when = datetime.fromtimestamp(_changed(folder)).strftime("%Y-%m-%d %H:%M")
    made = len(here & set(nodes)) if nodes else len(here)
    scores = _scores(folder, recipe)
    return Run(str(folder), name, when, _state(folder), made, len(nodes), scores, _bytes(folder))


def _recipe(folder: Path) -> tuple[Recipe | None, list[str]]:
    try:
        recipe = load_recipe(folder / "recipe.yaml")
        return recipe, [node.name for node in graph(recipe)]
    except LehrError:
        return None, []


def _name(folder: Path) -> str:
    """Of a recipe that this version cannot read: an older one's keys, or a damaged file."""
    try:
        name = read_mapping(folder / "recipe.yaml", "recipe", "").get("name")
        return name if isinstance(name, str) else "?"
    except LehrError:
        return "?"


def _changed(folder: Path) -> float:
    """When something last happened there: files of the run, and artifacts and work that came or went."""
    names = ("recipe.yaml", "lineage.json", "report.html", "artifacts", "work", "attempts")
    return max(path.stat().st_mtime for path in (folder / name for name in names) if path.exists())


def _state(folder: Path) -> str:
    if _locked(folder):
        return "at work"
    report, begun = folder / "report.html", folder / "recipe.yaml"
    done = report.is_file() and report.stat().st_mtime + _TOLERANCE_SECONDS >= begun.stat().st_mtime
    return "finished" if done else "stopped"


def _locked(folder: Path) -> bool:
    """Whether a process of this machine holds the run (lehr.tasks.lock). Asked with a shared lock, which is let go at once."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _scores(folder: Path, recipe: Recipe | None) -> str:
    """Of the last model: the first task of the recipe, and the first of chat. Where the recipe cannot be read, the
    first task of the stage that was scored last."""
    try:
        path = folder / "scores.json"
        rows = read_records(path) if path.is_file() else []
        if recipe is None:
            last = [r for r in rows if r.stage == rows[-1].stage and r.split == "held_out"]
            return ", ".join(_said(r) for r in [_first(last, [r.task for r in last])] if r)
        final = recipe.last_model
        records = [r for r in rows if r.stage == final and r.split == "held_out"]
        plans = recipe.evaluation.tasks
        groups = ([p.task for p in plans if p.stages != "chat"], [p.task for p in plans if p.stages == "chat"])
        firsts = [_first(records, tasks) for tasks in groups]
        return ", ".join(_said(r) for r in firsts if r)
    except LehrError:
        return "damaged scores.json"


def _first(records: list[ScoreRecord], tasks: list[str]) -> ScoreRecord | None:
    """Of the first task that was scored, whether answers are right rather than how they look."""
    for task in tasks:
        if found := [r for r in records if r.task == task]:
            return next((r for r in found if r.metric == "exact_match"), found[0])
    return None


def _said(record: ScoreRecord) -> str:
    return f"{record.task} {with_unit(record.value, metric(record.metric))}"


def _bytes(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:  # gone meanwhile: a run is at work
                continue
    return total
