"""A run as it is compared with others: its recipe, what it made, its logs and scores, and what is missing of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lehr.analysis.comparison import one_recipe
from lehr.artifacts.artifact import LOGS, MANIFEST, REPEAT, Artifact, Manifest
from lehr.config import load_recipe
from lehr.evals.items import HELD_OUT, ItemScores, damaged, read_items
from lehr.evals.parts import of_source
from lehr.evals.scores import ITEMS, SCORES
from lehr.pipeline.graph import graph
from lehr.pipeline.registry import STAGES
from lehr.report.data import StageReport, pipeline_order
from lehr.report.scores import ScoreRecord, read_records
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_objects, read_rows
from lehr.runtime.metrics import metric
from lehr.runtime.yaml_file import read_mapping

CURVES = f"{LOGS}/curves.jsonl"
NEEDED = (CURVES, ITEMS, SCORES)  # files of artifacts that a comparison reads
Key = tuple[str, str, str]  # stage, task, metric


@dataclass(frozen=True)
class ComparedRun:
    """`recipe` is the resolved one; `scores` the held-out ones; `missing` says in sentences what is not there."""

    name: str
    folder: Path
    recipe: dict[str, Any]
    stages: list[StageReport]
    scores: list[ScoreRecord]
    items: dict[Key, ItemScores]
    missing: list[str] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    def score(self, stage: str, task: str, metric: str) -> ScoreRecord | None:
        return next((r for r in self.scores if (r.stage, r.task, r.metric) == (stage, task, metric)), None)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds and the layout of ranks; a single run is one too."""

    name: str
    runs: list[ComparedRun]

    @property
    def of_seeds(self) -> bool:
        return len(self.runs) > 1


def load(folder: Path, name: str) -> ComparedRun:
    """The run in a folder, finished or not, or what `lehr eval` wrote into one, under the name that the comparison has for it.
    Raises UserError where there is neither, or a file of it is damaged."""
    pinned = folder / "recipe.yaml"
    artifacts = _artifacts(folder)
    if not pinned.is_file() and not artifacts and not (folder / "scores.json").is_file():
        what = "no run here" if folder.is_dir() else "there is no such folder"
        raise UserError(what, where=folder, remedy="give a run's folder or address, such as runs/tiny-olmo2")
    recipe = read_mapping(pinned, "recipe", REPEAT) if pinned.is_file() else {}
    stages = pipeline_order([_stage(artifact) for artifact in artifacts])
    scores = _scores(folder, artifacts)
    missing = [*_not_made(folder, pinned, {a.manifest.stage for a in artifacts}), *_not_there(recipe, stages, scores)]
    if not pinned.is_file() and artifacts and not any(stage.curves for stage in stages):
        missing = [] if scores else missing[-1:]  # scores alone, of `lehr eval`: no run was ever there
    return ComparedRun(name, folder, recipe, stages, scores, _items(artifacts), missing, artifacts)


def groups(runs: Sequence[ComparedRun]) -> list[Group]:
    """In the order of the first run of each."""
    found: list[list[ComparedRun]] = []
    for run in runs:
        alike = next((group for group in found if one_recipe([group[0].folder, run.folder])), None)
        if alike is None:
            found.append([run])
        else:
            alike.append(run)
    return [Group(_named([run.name for run in group]), group) for group in found]


def _named(runs: Sequence[str]) -> str:
    return runs[0] if len(runs) == 1 else f"{len(runs)} seeds: {', '.join(runs)}"


def _artifacts(folder: Path) -> list[Artifact]:
    """Those that the run's last report was made of; of a run without one the newest of each stage, oldest first; of what `lehr
    eval` wrote all scores, for one model's may be in several."""
    found = [Artifact.open(path.parent, verify=False) for path in sorted((folder / "artifacts").glob(f"*/{MANIFEST}"))]
    lineage = folder / "lineage.json"
    if lineage.is_file():
        published = {str(row.get("folder")) for row in read_objects(lineage, REPEAT)}
        return [a for a in found if a.folder.name in published]
    newest = sorted(found, key=lambda a: a.path(MANIFEST).stat().st_mtime)
    all_scores = not (folder / "recipe.yaml").is_file()
    return list({a.folder.name if all_scores and a.manifest.kind == "scores" else a.manifest.stage: a for a in newest}.values())


def _stage(artifact: Artifact) -> StageReport:
    m, curves = artifact.manifest, artifact.path(CURVES)
    try:
        return _report(m, list(read_rows(curves, REPEAT)) if curves.is_file() else [])
    except ValidationError as error:
        raise damaged(curves, error) from None


def _report(m: Manifest, curves: list[dict[str, Any]]) -> StageReport:
    return StageReport(
        name=m.stage,
        kind=m.kind,
        stage_kind=m.stage_kind,
        phase=STAGES[m.stage_kind].phase if m.stage_kind in STAGES else "",
        digest=m.digest,
        parents=[p.digest for p in m.parents],
        seconds=m.cost.seconds,
        tokens=m.cost.tokens if m.kind == "checkpoint" else 0,
        flops=m.cost.flops,
        energy_joules=m.cost.energy_joules,
        energy_source=m.cost.energy_source,
        curves=curves,
    )


def _scores(folder: Path, artifacts: Sequence[Artifact]) -> list[ScoreRecord]:
    """The published ones of models, without what they are compared with; of a run without a report those of its artifacts,
    which may be fewer, the newest of each."""
    published = folder / "scores.json"
    made = [path for a in artifacts if SCORES in a.manifest.files and (path := a.path(SCORES)).is_file()]
    paths = [published] if published.is_file() and ((folder / "lineage.json").is_file() or not made) else made
    read = [r for path in paths for record in read_records(path) if record.split == HELD_OUT for r in _with_sources(record)]
    found = {(r.stage, r.task, r.metric): r for r in read}
    return [r for r in found.values() if not metric(r.metric).baseline_of]


def _with_sources(record: ScoreRecord) -> Iterator[ScoreRecord]:
    """A score, and behind bits per byte those of each source. Perplexities say the same again, and domains may be hundreds."""
    yield record
    for part in record.parts if record.metric == "bits_per_byte" else ():
        if not part.domain:
            own = {name: getattr(part, name) for name in ("value", "stderr", "n", "clusters")}
            yield record.model_copy(update={**own, "metric": of_source(record.metric, part.source), "parts": []})


def _items(artifacts: Sequence[Artifact]) -> dict[Key, ItemScores]:
    """By stage, task and metric. Runs of earlier versions have none."""
    found = (one for artifact in artifacts for items in read_items(artifact.path(ITEMS)) for one in items.variants())
    return {(one.stage, one.task, one.metric): one for one in found}


def _not_made(folder: Path, pinned: Path, made: set[str]) -> list[str]:
    """What an unfinished run still lacks."""
    if (folder / "lineage.json").is_file():
        return []
    try:
        names = [node.name for node in graph(load_recipe(pinned))] if pinned.is_file() else []
    except UserError:  # of another version
        names = []
    left = [name for name in names if name not in made]
    what = f": of {len(names)} stages {len(left)} are not made, {', '.join(left)}" if left else ""
    return [f"not finished{what}"]


def _not_there(recipe: dict[str, Any], stages: Sequence[StageReport], scores: Sequence[ScoreRecord]) -> list[str]:
    gaps = {"no recipe": recipe, "no logs of training": any(s.curves for s in stages), "no held-out scores": scores}
    return [what for what, there in gaps.items() if not there]
