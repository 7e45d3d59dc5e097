"""Runs in a folder, and what `lehr eval` wrote there, by what they left: whatever is damaged is said, and the rest shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from lehr.analysis.ancestors import nowhere
from lehr.analysis.expense import Expense, expense
from lehr.analysis.tradeoff import scored_model
from lehr.artifacts.artifact import MANIFEST, Artifact
from lehr.cli.locate import latest
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
_SHOWN = 3  # scores of a model that nothing is known of but its scores
_MARKS = ("recipes", "artifacts", ".lock")  # one of which a run has beside its recipe.yaml; a recipe of one's own has none


@dataclass(frozen=True)
class Run:
    """`state` is finished, stopped or at work, and scores of what `lehr eval` wrote; `when` the local time of the last change;
    `reached` the last stage of the graph that is made; `taken` what led to the furthest model, None where there is none yet;
    `bytes` of all files; `damaged` the files that cannot be read."""

    folder: str
    recipe: str
    when: str
    state: Literal["finished", "stopped", "at work", "scores"]
    reached: str
    stages: int
    of_stages: int  # 0 where the recipe is damaged or of another version
    scores: str
    taken: Expense | None
    bytes: int
    damaged: list[str] = field(default_factory=list)


def runs(place: Path, *, default: bool = False) -> list[Run]:
    """The last one first. Raises UserError for a place that is no folder; the default one need not be there yet."""
    if str(place).startswith("s3:/"):
        where = str(place).replace("s3:/", "s3://", 1)
        raise UserError("only runs on this machine are listed", where=where, remedy="ask `lehr show` about one in a store")
    if not place.is_dir() and not (default and not place.exists()):
        raise UserError("there is no such folder", where=place, remedy="give a folder with runs, such as runs")
    found = []
    for folder in _folders(place, _DEPTH):
        try:
            found.append((_changed(folder), _run(folder) if _is_run(folder) else _scored(folder)))
        except OSError:  # gone meanwhile
            continue
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]


def newest(place: Path) -> Path | None:
    """The folder of the run that was worked on last, one at work before all others; None where there is none."""
    folders = [folder for folder in _folders(place, _DEPTH) if _is_run(folder)]
    found = [(locked(folder / ".lock"), _changed(folder), folder) for folder in folders]
    return max(found, default=(False, 0.0, None), key=lambda run: run[:2])[2]


def _is_run(place: Path) -> bool:
    return (place / "recipe.yaml").is_file() and any((place / name).exists() for name in _MARKS)


def _folders(place: Path, depth: int) -> Iterator[Path]:
    """Runs, and folders of scores, also those in a run."""
    run = _is_run(place)
    if run or ((place / "scores.json").is_file() and (place / "artifacts").is_dir()):
        yield place
    for folder in [place / "evals"] if run else _inside(place) if depth else []:
        yield from _folders(folder, depth - 1)


def _inside(place: Path) -> list[Path]:
    try:
        found = sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return []
    return [p for p in found if p.name not in ("artifacts", "work")]


def _run(folder: Path) -> Run:
    recipe, names = _recipe(folder)
    made, damaged = _artifacts(folder)
    here = {artifact.folder.name.rpartition("-")[0] for artifact in made}
    known = [name for name in names if name in here] if names else sorted(here)
    records = _records(folder, damaged)
    return Run(
        str(folder), recipe.name if recipe else _name(folder), _when(folder), _state(folder), known[-1] if known else "",
        len(known), len(names), _headline(records, recipe), _taken(folder, made), _bytes(folder), damaged,
    )  # fmt: skip


def _scored(folder: Path) -> Run:
    """What `lehr eval` wrote: the scores of one model as a rule."""
    made, damaged = _artifacts(folder)
    records = [r for r in _records(folder, damaged) if not metric(r.metric).baseline_of]
    last = records[-1].stage if records else ""
    firsts = {r.task: r for r in reversed(records) if r.stage == last}
    said = ", ".join(_said(r) for r in reversed(list(firsts.values())[-_SHOWN:]))
    scores = [a for a in made if a.manifest.kind == "scores"]
    models = [model for a in scores[-1:] if (model := scored_model(a, nowhere)) is not None]
    taken = expense(models[0], nowhere) if models else None
    return Run(str(folder), "–", _when(folder), "scores", last, 0, 0, said, taken, _bytes(folder), damaged)


def _recipe(folder: Path) -> tuple[Recipe | None, list[str]]:
    try:
        recipe = load_recipe(folder / "recipe.yaml")
        return recipe, [node.name for node in graph(recipe)]
    except (LehrError, OSError):
        return None, []


def _name(folder: Path) -> str:
    """Of a recipe that this version cannot read: an older one's keys, or a damaged file."""
    try:
        name = read_mapping(folder / "recipe.yaml", "recipe", "").get("name")
        return name if isinstance(name, str) else "?"
    except (LehrError, OSError):
        return "?"


def _artifacts(folder: Path) -> tuple[list[Artifact], list[str]]:
    """Those that are complete, oldest first, and the manifests that are damaged."""
    found, damaged = list[tuple[float, Artifact]](), list[str]()
    for path in sorted(folder.glob(f"artifacts/*/{MANIFEST}")):
        try:
            found.append((path.stat().st_mtime, Artifact.open(path.parent, verify=False)))
        except (LehrError, OSError):
            damaged.append(str(path.relative_to(folder)))
    return [artifact for _, artifact in sorted(found, key=lambda pair: pair[0])], damaged


def _taken(folder: Path, made: Sequence[Artifact]) -> Expense | None:
    models = [artifact for artifact in made if artifact.manifest.kind == "checkpoint"]
    return expense(latest(folder, models), nowhere) if models else None


def _when(folder: Path) -> str:
    return datetime.fromtimestamp(_changed(folder)).strftime("%Y-%m-%d %H:%M")


def _changed(folder: Path) -> float:
    """When something last happened there: files of the run, and artifacts and work that came or went."""
    names = ("recipe.yaml", "lineage.json", "report.html", "artifacts", "work", "attempts")
    there = [folder / name for name in (*names, *(() if (folder / "recipe.yaml").is_file() else ("scores.json",)))]
    return max((path.stat().st_mtime for path in there if path.exists()), default=0.0)


def _state(folder: Path) -> Literal["finished", "stopped", "at work"]:
    if locked(folder / ".lock"):
        return "at work"
    report, begun = folder / "report.html", folder / "recipe.yaml"
    done = report.is_file() and report.stat().st_mtime + _TOLERANCE_SECONDS >= begun.stat().st_mtime
    return "finished" if done else "stopped"


def _records(folder: Path, damaged: list[str]) -> list[ScoreRecord]:
    """The held-out ones of scores.json; its name is added to `damaged` where it cannot be read."""
    path = folder / "scores.json"
    try:
        return [r for r in read_records(path) if r.split == "held_out"] if path.is_file() else []
    except (LehrError, OSError):
        damaged.append(path.name)
        return []


def _headline(rows: Sequence[ScoreRecord], recipe: Recipe | None) -> str:
    """Of the last model: the scores that the recipe names first, else that of its first task and its first of chat. Where the
    recipe cannot be read, the first task of the stage that was scored last."""
    if not rows:
        return ""
    if recipe is None:
        last = [r for r in rows if r.stage == rows[-1].stage]
        return ", ".join(_said(r) for r in [_first(last, [r.task for r in last])] if r)
    records = [r for r in rows if r.stage == recipe.last_model]
    named = {f"{r.task}/{r.metric}": r for r in records}
    if wished := [named[name] for name in recipe.evaluation.headline if name in named]:
        return ", ".join(map(_said, wished))
    plans = recipe.evaluation.tasks
    groups = ([p.task for p in plans if p.stages != "chat"], [p.task for p in plans if p.stages == "chat"])
    firsts = [_first(records, tasks) for tasks in groups]
    return ", ".join(_said(r) for r in firsts if r)


def _first(records: Sequence[ScoreRecord], tasks: Sequence[str]) -> ScoreRecord | None:
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
