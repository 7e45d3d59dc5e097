"""Small artifacts as stages leave them, and a run of them in MLflow: a helper of the tests beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import Artifact, Cost, Kind
from lehr.monitoring import mlflow_store
from lehr.monitoring.mlflow_moved import artifacts_of, tracking_uri_of
from lehr.monitoring.mlflow_tracker import MlflowTracker

PATIENCE_SECONDS = 280.0  # with a machine that does other things

SCORE: dict[str, object] = {
    "stage": "stage1",
    "task": "prose",
    "split": "dev",
    "metric": "bits_per_byte",
    "value": 2.0,
    "stderr": 0.1,
    "n": 9,
    "seed": 1,
}


def artifact(
    root: Path, stage: str, kind: Kind, parents: Sequence[Artifact] = (), meta: dict[str, Any] | None = None, text: str = "x"
) -> Artifact:
    """An artifact in `root`, a run's folder."""
    folder = root / "artifacts" / f"{stage}-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text(text)
    return Artifact.seal(
        folder,
        kind=kind,
        stage=stage,
        stage_kind=stage,
        fingerprint="f" * 64,
        parents=[parent.ref for parent in parents],
        config={"optim": {"lr": 0.003}, "empty": ""},
        code="c" * 64,
        meta=meta or {},
        cost=Cost(tokens=7),
    )


def run_of(root: Path) -> dict[str, Artifact]:
    """A whole run's artifacts, by stage."""
    documents = artifact(root, "documents", "documents", meta={"read": 12, "kept": 9})
    tokenizer = artifact(root, "tokenizer", "tokenizer", [documents])
    shards = artifact(root, "shards", "shards", [documents, tokenizer], {"tokens": {"novel": 30, "law": 12}, "tokenizer": "ab"})
    stage1 = artifact(root, "stage1", "checkpoint", [shards, documents, tokenizer], {"tokens": 32})
    scores = artifact(root, "scores-stage1", "scores", [stage1, documents])
    anneal = artifact(root, "anneal-1", "checkpoint", [stage1, shards], text="y")
    export = artifact(root, "export", "export", [anneal, shards])
    model = root / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "README.md").write_text("a card")
    made = (documents, tokenizer, shards, stage1, scores, anneal, export)
    return {one.manifest.stage: one for one in made}


def store(empty: Path, root: Path) -> None:
    """Give a run's folder an MLflow file with its schema."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty, root / "mlflow.db")


def new_store(path: Path) -> Path:
    mlflow_store.prepare(f"sqlite:///{path}")
    return path


def tracker(root: Path, **changes: Any) -> MlflowTracker:
    """One that writes into the run's own file."""
    options = {"run_key": "here", "copies": root / "artifacts", "flush_seconds": 0.02, **changes}
    return MlflowTracker(tracking_uri_of(root), "lehr", "tiny", artifacts_of(root), {"seed": 1}, **options)


def follow(
    tracked: MlflowTracker, made: dict[str, Artifact], *, reused: bool = False, registered: str = "", alias: str = ""
) -> None:
    """What the tracker hears of these stages; and the end of the run."""
    for stage, one in made.items():
        tracked.stage_finished(stage, uri=one.uri, reused=reused, seconds=1.0)
        if one.manifest.kind == "scores":
            tracked.scored("stage1", [SCORE, {**SCORE, "task": "arithmetic", "metric": "exact_match", "value": 0.5}])
    if registered:
        export = made["export"]
        tracked.register(registered, "export", export.uri, export.folder.parents[1] / "model", alias)
    tracked.close(timeout_seconds=PATIENCE_SECONDS)


def client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri_of(root))


def runs(root: Path) -> dict[str, Any]:
    """The run of each name, whole; two of one name are an error."""
    mlflow = client(root)
    experiment = mlflow.get_experiment_by_name("lehr")
    found = mlflow.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: mlflow.get_run(run.info.run_id) for run in found}


def models(root: Path) -> dict[str, Any]:
    mlflow = client(root)
    found = mlflow.search_logged_models([mlflow.get_experiment_by_name("lehr").experiment_id])
    assert len({model.name for model in found}) == len(found)
    return {model.name: model for model in found}
