"""What a run's folder says of its stages, scores, conversations and documents, whoever wrote it and however far it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, MANIFEST
from lehr.config import load_recipe
from lehr.evals.scores import SAMPLES, SCORES
from lehr.monitoring.watch.small_files import locked, small_json
from lehr.pipeline.graph import graph
from lehr.report.scores import ScoreRecord, read_records
from lehr.runtime.errors import LehrError
from lehr.runtime.text import visible

CURVES = "curves.jsonl"
_MOST_STAGES = 300
_MOST_PROMPTS = 12
_MOST_REASONS = 30
_TEXT = 800  # characters of a prompt or an answer
_NAME = 120


@dataclass
class Stage:
    """A stage of the run. `state` is done, at work, stopped or waiting; `log` its curves, if it has any."""

    name: str
    state: str = "waiting"
    log: Path | None = None
    artifact: str = ""  # name of its folder
    kind: str = ""
    seconds: float = 0.0
    tokens: float = 0.0
    joules: float | None = None


@dataclass
class Facts:
    """What a run has found out so far. `funnel`: source -> read, kept and dropped documents."""

    scores: list[ScoreRecord] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    funnel: dict[str, dict[str, Any]] = field(default_factory=dict)


class RunFolder:
    """Looked at again and again; what has not changed is not read twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: dict[str, Stage] = {}
        self.facts = Facts()
        self.name = folder.resolve().name
        self.recipe_error = ""
        self._recipe_time, self._order = 0, list[str]()
        self._known: dict[str, Stage] = {}  # folder of an artifact -> its stage
        self._read: tuple[str, ...] = ()

    @property
    def there(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / "recipe.yaml").is_file()

    @property
    def at_work(self) -> bool:
        """Whether a process of this machine works on it."""
        return locked(self.folder / ".lock")

    @property
    def finished(self) -> bool:
        """Whether its report is of its recipe. A copied run's files have the times of their copying, in any order."""
        try:
            report, begun = ((self.folder / name).stat().st_mtime for name in ("report.html", "recipe.yaml"))
        except OSError:
            return False
        return report + 2.0 >= begun

    def look(self) -> bool:
        """Read what is new. Returns whether `facts` have changed."""
        self._read_recipe()
        made = self._artifacts()
        begun = self._work()
        names = [*self._order, *(name for name in (*made, *begun) if name not in self._order)][:_MOST_STAGES]
        at_work = self.at_work
        self.stages = {name: made.get(name) or self._unfinished(name, begun.get(name), at_work) for name in names}
        folders = tuple(stage.artifact for stage in self.stages.values() if stage.artifact)
        if folders == self._read:
            return False
        self._read = folders
        self._read_facts()
        return True

    def _read_recipe(self) -> None:
        path = self.folder / "recipe.yaml"
        try:
            changed = path.stat().st_mtime_ns
            if changed == self._recipe_time:
                return
            self._recipe_time = changed
            recipe = load_recipe(path)
            self._order, self.recipe_error = [node.name for node in graph(recipe)], ""
            self.name = visible(recipe.name)[:_NAME]
        except (LehrError, OSError) as error:
            self._order, self.recipe_error = [], visible(str(error))[:300]

    def _artifacts(self) -> dict[str, Stage]:
        """The newest complete artifact of each stage."""
        found: dict[str, tuple[float, Stage]] = {}
        for folder in _folders(self.folder / "artifacts"):
            try:
                changed = (folder / MANIFEST).stat().st_mtime
            except OSError:
                continue  # not complete
            stage = self._known.get(folder.name) or self._manifest(folder)
            if stage is not None and changed >= found.get(stage.name, (0.0, stage))[0]:
                found[stage.name] = changed, stage
        return {name: stage for name, (_, stage) in found.items()}

    def _manifest(self, folder: Path) -> Stage | None:
        made = small_json(folder / MANIFEST)
        if not isinstance(made, dict):
            return None
        cost = _object(made.get("cost"))
        metered = cost.get("energy_source", "none") != "none"
        log = folder / LOGS / CURVES
        stage = Stage(
            visible(str(made.get("stage", "")))[:_NAME],
            "done",
            log if log.is_file() else None,
            folder.name,
            str(made.get("kind", "")),
            _number(cost.get("seconds")),
            _number(cost.get("tokens")),
            _number(cost.get("energy_joules")) if metered else None,
        )
        self._known[folder.name] = stage
        return stage

    def _work(self) -> dict[str, Path]:
        """Folders of unfinished work by the stage's name."""
        return {folder.name.rpartition("-")[0]: folder for folder in _folders(self.folder / "work")}

    def _unfinished(self, name: str, work: Path | None, at_work: bool) -> Stage:
        if work is None:
            return Stage(name)
        log = work / CURVES
        return Stage(name, "at work" if at_work else "stopped", log if log.is_file() else None)

    def _read_facts(self) -> None:
        self.facts = Facts()
        answers: dict[str, dict[str, Any]] = {}
        for stage in self.stages.values():
            folder = self.folder / "artifacts" / stage.artifact
            if stage.artifact and stage.kind == "scores":
                self.facts.scores += _records(folder)
                _add_samples(answers, stage.name.removeprefix("scores-"), small_json(folder / SAMPLES))
            elif stage.artifact and stage.kind == "documents":
                self.facts.funnel.update(_funnel(small_json(folder / "funnel.json")))
        self.facts.samples = list(answers.values())


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def _object(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _records(folder: Path) -> list[ScoreRecord]:
    """Those of a scored stage; none where the file is damaged."""
    try:
        return read_records(folder / SCORES) if (folder / SCORES).is_file() else []
    except LehrError:
        return []


def _add_samples(found: dict[str, dict[str, Any]], model: str, rows: object) -> None:
    """The answers of one model, beside those of others to the same prompts."""
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            continue
        if row["prompt"] not in found and len(found) >= _MOST_PROMPTS:
            continue
        fresh = {"prompt": _text(row["prompt"]), "expected": _text(row.get("expected", "")), "answers": {}}
        found.setdefault(row["prompt"], fresh)["answers"][model] = _text(row.get("answer", ""))


def _text(value: object) -> str:
    whole = visible(str(value))
    return whole if len(whole) <= _TEXT else whole[:_TEXT] + " …"


def _funnel(found: object) -> dict[str, dict[str, Any]]:
    out = {}
    for source, row in found.items() if isinstance(found, dict) else ():
        if isinstance(row, dict):
            dropped = list(_object(row.get("dropped")).items())[:_MOST_REASONS]
            reasons = {visible(str(why))[:_NAME]: _number(count) for why, count in dropped}
            out[visible(str(source))[:_NAME]] = {
                "read": _number(row.get("read")), "kept": _number(row.get("kept")), "dropped": reasons,
            }  # fmt: skip
    return out
