"""The trackers of a run in this process: terminal, MLflow, Prometheus, energy meter. One session per process.

`lehr run` opens one around the whole graph; under `pyflyte run`, or in a pod, the first task opens it and the end of
the process closes it.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from lehr.artifacts.artifact import canonical, sha256_text
from lehr.config.recipe import Recipe
from lehr.monitoring.console import ConsoleTracker
from lehr.monitoring.energy import PowerMeter
from lehr.monitoring.exporter import PrometheusTracker
from lehr.monitoring.fan_out import FanOut
from lehr.monitoring.mlflow_schema import sqlite_uri
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.pipeline.attempt import StageContext
from lehr.tasks.progress import Progress
from lehr.tasks.refs import RunRef
from lehr.tasks.run_location import RunLocation, local
from lehr.tasks.termination import set_progress_source


@dataclass
class Session:
    """What follows a run, and which stages were found again rather than made."""

    tracker: FanOut
    power: PowerMeter
    progress: Progress
    mlflow: MlflowTracker | None
    began: float = field(default_factory=time.monotonic)
    done: bool = False  # set when the run is published; a session that closes without it has failed

    @property
    def reused(self) -> frozenset[str]:
        """Stages that were found again in this process."""
        return frozenset(self.progress.reused)

    def context(self, run: RunRef) -> StageContext:
        return StageContext(RunLocation(run.root).store(), self.tracker, self.power, fetch=local)

    def close(self) -> None:
        global _current
        if _current is self:
            _current = None
            set_progress_source(dict)
            self.tracker.close(failed=not self.done)


_current: Session | None = None


def open_session(
    recipe: Recipe, stages: Sequence[str], root: Path, key: str, *, metrics_port: int = 0, mlflow: bool = True
) -> Session:
    """Start the trackers of a run with these stages, whose folder on this machine is `root`. Prometheus listens on loopback
    only; MLflow writes to `root`/mlflow.db unless MLFLOW_TRACKING_URI names another place."""
    global _current
    pinned = canonical(recipe.model_dump(mode="json"))
    power = PowerMeter(recipe.site.cpu_watts_per_core)
    console = ConsoleTracker(stages, title=recipe.name)
    exporter = PrometheusTracker(recipe.name, model=recipe.model.family, recipe_sha256=sha256_text(pinned), power=power)
    if mlflow and find_spec("mlflow") is None:
        console.note("MLflow is not installed: the run is not tracked there (pip install 'lehr[track]')")
        mlflow = False
    tracked = _mlflow(recipe, root, key, pinned) if mlflow else None
    progress = Progress(recipe.name)
    tracker = FanOut([console, exporter, progress, *([tracked] if tracked else [])])
    url = exporter.start(metrics_port, note=console.note)
    console.note(f"metrics: {url}")
    _current = Session(tracker, power, progress, tracked)
    atexit.register(_current.close)
    set_progress_source(progress.words)
    return _current


def _mlflow(recipe: Recipe, root: Path, key: str, pinned: str) -> MlflowTracker:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    place = None if uri else (root / "mlflow-artifacts").as_uri()
    return MlflowTracker(
        uri or sqlite_uri(root / "mlflow.db"),
        recipe.model.family,
        recipe.name,
        place,
        recipe.model_dump(mode="json"),
        {"lehr.recipe_sha256": sha256_text(pinned)},
        run_key=key,
        copies=root / "artifacts",
    )


def session(run: RunRef, recipe: Recipe, stages: Sequence[str]) -> Session:
    """The open session, or one opened now."""
    return _current or open_session(recipe, stages, RunLocation(run.root).folder, run.key)
