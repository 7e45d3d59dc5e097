"""Scores of `lehr eval` in MLflow, where MLFLOW_TRACKING_URI names one: under the names that a run's scores have there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lehr import __version__
from lehr.artifacts.artifact import Artifact, sha256_text
from lehr.cli.say import say
from lehr.evals.named_suites import Suite, summary
from lehr.runtime.redaction import masked

_HELD_OUT = "held_out"
SUITE_METRIC = "mean"  # of a suite's benchmarks: score/SUITE/held_out/mean


@dataclass(frozen=True)
class Scored:
    """What was scored: the sealed `scores`, the `model` that they are of, by its `label` and `family`, and where `records` were
    written."""

    scores: Artifact
    model: Artifact
    label: str
    family: str
    records: list[dict[str, Any]]
    written: Path
    seconds: float
    reused: bool


def tracking_wanted() -> bool:
    """Whether there is an MLflow to tell. As for a run in a pod: without an address nothing is told."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def track(done: Scored, suite: str = "", of: Suite | None = None) -> None:
    """Tell MLflow. Raises nothing: scores that are made are not lost to a server that does not answer. What it did not get
    waits beside the scores, and the next `lehr eval` there sends it."""
    if find_spec("mlflow") is None:
        say("MLflow is not installed: the scores are not tracked there (pip install 'lehr[track]')", err=True)
        return
    try:
        _track(done, suite, of)
    except Exception as error:  # noqa: BLE001 - whatever it is, the scores are made
        from lehr.monitoring.mlflow_errors import brief

        say(f"the scores are not tracked in MLflow: {masked(brief(error))}", err=True)


def _track(done: Scored, suite: str, of: Suite | None) -> None:
    """One run in MLflow for what was scored together, found again by the digest of the scores, which is the same for an
    evaluation that was killed and went on; with a child for the model."""
    from lehr.monitoring.mlflow_spool import FOLDER
    from lehr.monitoring.mlflow_tracker import MlflowTracker
    from lehr.tasks.tracked_run import whereabouts

    place, manifest = done.written.absolute().parent, done.scores.manifest
    tags = {
        "lehr.model": done.label,
        "lehr.model_digest": done.model.manifest.digest,
        "lehr.suite": suite,
        "lehr.scores_digest": manifest.digest,
        "lehr.model_family": done.family,
        "lehr.version": __version__,
        "lehr.command": masked(shlex.join(["lehr", *sys.argv[1:]])),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": masked(done.model.uri),
        **whereabouts(),
    }
    uri, name = os.environ["MLFLOW_TRACKING_URI"], f"eval {done.label} {suite}".rstrip()
    tracker = MlflowTracker(
        uri,
        done.family,
        name,
        None,
        manifest.config,
        tags,
        run_key=f"eval-{sha256_text(f'{place} {manifest.digest}')[:16]}",
        order=[done.label],
        pending=place / FOLDER,
    )
    tracker.stage_finished(manifest.stage, uri=str(done.scores.folder.absolute()), reused=done.reused, seconds=done.seconds)
    tracker.scored(done.label, [*map(dict, done.records), *_of_suite(suite, of, done.records)])
    tracker.log_artifacts([done.written])
    tracker.close()
    if tracker.delivered:
        say(f"MLflow: {masked(uri)}, experiment {done.family}, run {name}", err=True)


def _of_suite(name: str, of: Suite | None, records: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """The suite's mean, as a record like the others."""
    if of is None:
        return []
    found = summary(of, records)
    return [{"task": name, "split": _HELD_OUT, "metric": SUITE_METRIC, "value": found.mean, "stderr": found.stderr}]
