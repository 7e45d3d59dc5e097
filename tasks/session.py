"""The trackers of a run in this process: terminal, MLflow, Prometheus, energy meter. One session per process.

`lehr run` opens a session around the whole graph; under `pyflyte run`, or in a pod, the first task opens it and the end of
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

from lehr import __version__
from lehr.artifacts.artifact import canonical, sha256_text
from lehr.config.recipe import Recipe
from lehr.infra.pod.pod_request import run_name
from lehr.monitoring.console import ConsoleTracker
from lehr.monitoring.energy import PowerMeter
from lehr.monitoring.exporter import PrometheusTracker
from lehr.monitoring.fan_out import FanOut
from lehr.monitoring.gpus import Gpus
from lehr.monitoring.mlflow_moved import artifacts_of, tracking_uri_of
from lehr.monitoring.mlflow_spool import FOLDER
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.monitoring.peak_memory import PeakMemory
from lehr.monitoring.watch import endpoint
from lehr.pipeline.attempt import StageContext
from lehr.runtime.redaction import masked
from lehr.tasks.exporting import SharedCounts, about, serve
from lehr.tasks.progress import Progress
from lehr.tasks.refs import RunRef
from lehr.tasks.run_location import RunLocation, local
from lehr.tasks.termination import in_pod, set_progress_source
from lehr.tasks.tracked_run import TrackedRun, whereabouts


@dataclass
class Session:
    """The trackers of a run, and the stages whose artifacts were reused."""

    tracker: FanOut
    power: PowerMeter
    progress: Progress
    mlflow: MlflowTracker | None
    counts: SharedCounts
    folder: Path
    memory: PeakMemory | None  # none in a pod: what publishes there did not do the work
    began: float = field(default_factory=time.monotonic)
    done: bool = False  # set once the run is published; a session closed before that is recorded as failed
    over: bool = False  # set by an error that ends the run; in a pod, whose end is not the run's, nothing else does

    @property
    def reused(self) -> frozenset[str]:
        """Stages whose artifacts this process found and reused."""
        return frozenset(self.progress.reused)

    def context(self, run: RunRef) -> StageContext:
        return StageContext(RunLocation(run.root).store(), self.tracker, self.power, fetch=local)

    def close(self) -> None:
        global _current
        if _current is self:
            _current = None
            set_progress_source(dict)
            goes_on = in_pod() and not self.done and not self.over
            self.tracker.close(failed=None if goes_on else not self.done)
            endpoint.withdraw(self.folder)
            self.counts.close()
            self.power.close()
            if self.memory is not None:
                self.memory.close()


_current: Session | None = None


def open_session(run: RunRef, recipe: Recipe, stages: Sequence[str], *, metrics_port: int = 0, mlflow: bool = True) -> Session:
    """Start the trackers of a run with these stages. Outside a pod Prometheus is served on loopback only. MLflow writes to
    mlflow.db in the run's folder on this machine unless MLFLOW_TRACKING_URI gives another address. A pod's own file would go
    with the pod: there MLflow gets nothing without an address."""
    global _current
    recipe_sha256 = sha256_text(canonical(recipe.model_dump(mode="json")))
    power, gpus = PowerMeter(recipe.site.cpu_watts_per_core), Gpus.here()
    console = ConsoleTracker(stages, title=recipe.name)
    label = run_name(recipe.name, run.key)
    exporter = PrometheusTracker(about(run, recipe, recipe_sha256), power, gpus)
    if in_pod() and not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow = False
    if mlflow and find_spec("mlflow") is None:
        console.note("MLflow is not installed: the run is not tracked there (pip install 'lehr[track]')")
        mlflow = False
    tags = {"lehr.run": label, "lehr.recipe_sha256": recipe_sha256, **_source(run), **whereabouts()}
    tags |= {"lehr.recipe": recipe.name, "lehr.model_family": recipe.model.family, "lehr.version": __version__}
    tracked = _mlflow(run, recipe, stages, tags, gpus) if mlflow else None
    progress = Progress(recipe.name)
    # The exporter is closed last, as it may wait for a scraper.
    tracker = FanOut([console, progress, *([tracked] if tracked else []), exporter])
    counts = SharedCounts()
    url = serve(exporter, metrics_port, console.note)
    console.note(f'metrics: {url} (run="{label}")' if url else "metrics: none")
    folder = RunLocation(run.root).folder
    if url and not in_pod():
        endpoint.announce(folder, url)  # for `lehr watch`
    _current = Session(tracker, power, progress, tracked, counts, folder, None if in_pod() else PeakMemory())
    atexit.register(_current.close)
    set_progress_source(progress.words)
    return _current


def _source(run: RunRef) -> dict[str, str]:
    """How the run was started: the recipe in MLflow's own tag, whose last path component MLflow's pages show, and the whole
    command in a tag beside it."""
    # Masked: a command may contain an address with a password, and everybody with access to MLflow reads tags.
    said = {"mlflow.source.name": masked(run.source), "lehr.command": masked(run.command)}
    return {"mlflow.source.type": "JOB" if in_pod() else "LOCAL", **{key: text for key, text in said.items() if text}}


def _mlflow(run: RunRef, recipe: Recipe, stages: Sequence[str], tags: dict[str, str], gpus: Gpus | None) -> MlflowTracker:
    """In a run's own sqlite file the recipe alone identifies the run, so that it continues in a folder that was moved or
    copied. On a server, where runs of several places meet, the place is part of the key."""
    uri, place = os.environ.get("MLFLOW_TRACKING_URI", ""), RunLocation(run.root)
    folder = place.folder
    return MlflowTracker(
        uri or tracking_uri_of(folder),
        recipe.model.family,
        recipe.name,
        None if uri else artifacts_of(folder),
        recipe.model_dump(mode="json"),
        tags,
        run_key=run.key if uri else tags["lehr.recipe_sha256"][:16],
        order=stages,
        copies=folder / "artifacts",
        pending=folder / FOLDER,
        shared=TrackedRun(place, uri, run.key) if in_pod() else None,
        gpus=gpus,
    )


def session(run: RunRef, recipe: Recipe, stages: Sequence[str]) -> Session:
    """The open session of this process, or a new one."""
    return _current or open_session(run, recipe, stages)
