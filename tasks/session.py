"""The spectators of a run in this process: terminal, MLflow, Prometheus, energy meter. One session per process.

`lehr run` opens one around the whole workflow; under `pyflyte run`, or in a pod, the first task opens it and the end of
the process closes it.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.pods import EXIT_HANG
from lehr import pulse
from lehr.artifact import canonical, sha256_text
from lehr.config.recipe import Recipe
from lehr.stage import Surroundings
from monitoring.console import ConsoleTracker
from monitoring.energy import PowerMeter
from monitoring.exporter import PrometheusTracker
from monitoring.fan_out import FanOut
from monitoring.mlflow_tracker import MlflowTracker
from tasks.ending import in_pod, leave
from tasks.place import Place
from tasks.progress import Progress
from tasks.refs import RunRef
from tasks.reuse import Reuse
from tasks.watchdog import Watchdog


@dataclass
class Session:
    """What listens, and what was found again rather than made."""

    tracker: FanOut
    power: PowerMeter
    reuse: Reuse
    mlflow: MlflowTracker | None
    progress: Progress
    began: float = field(default_factory=time.monotonic)
    done: bool = False  # set when the run is published; a session that closes without it has failed

    def around(self, run: RunRef) -> Surroundings:
        return Surroundings(Place(run.root).store(), self.tracker, self.power)

    def close(self) -> None:
        global _current
        if _current is self:
            _current = None
            self.tracker.close(failed=not self.done)


_current: Session | None = None


def open_session(recipe: Recipe, root: Path, key: str, *, metrics_port: int = 0, mlflow: bool = True) -> Session:
    """Start the spectators of a run, whose folder on this machine is `root`. Prometheus listens on loopback only; MLflow writes
    to `root`/mlflow.db unless MLFLOW_TRACKING_URI names another place."""
    global _current
    pinned = canonical(recipe.model_dump(mode="json"))
    power = PowerMeter(recipe.site.cpu_watts_per_core)
    reuse = Reuse()
    console = ConsoleTracker(recipe.stage_names, title=recipe.name)
    exporter = PrometheusTracker(recipe.name, model=recipe.model.family, recipe_sha256=sha256_text(pinned), power=power)
    tracked = _mlflow(recipe, root, key, pinned) if mlflow else None
    progress = Progress(recipe.name)
    tracker = FanOut([console, exporter, reuse, progress, *([tracked] if tracked else [])])
    url = exporter.start(metrics_port, note=console.note)
    console.note(f"metrics: {url}")
    _current = Session(tracker, power, reuse, tracked, progress)
    atexit.register(_current.close)
    if in_pod():
        _watch(progress)
    return _current


def _watch(progress: Progress) -> None:
    """In a pod, training that hangs ends the process, so that it starts again from its checkpoint."""

    def hangs(step: int, seconds: float) -> None:
        faulthandler.dump_traceback()  # where every thread stands
        leave(EXIT_HANG, f"no step for {seconds:.0f} s", {**progress.words(), "step": step})

    limit = float(os.environ.get("LEHR_WATCHDOG_SECONDS", "60"))
    dog = Watchdog(hangs, limit, min(1.0, limit / 4))
    pulse.listen(dog.beat)
    dog.start()


def last_words() -> dict[str, Any]:
    """What the open session knows of the run's progress."""
    return _current.progress.words() if _current is not None else {}


def _mlflow(recipe: Recipe, root: Path, key: str, pinned: str) -> MlflowTracker:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    place = None if uri else str(root / "mlflow-artifacts")
    return MlflowTracker(
        uri or f"sqlite:///{root / 'mlflow.db'}",
        recipe.model.family,
        recipe.name,
        place,
        recipe.model_dump(mode="json"),
        {"lehr.recipe_sha256": sha256_text(pinned)},
        run_key=key,
        copies=root / "artifacts",
    )


def session(run: RunRef) -> Session:
    """The open session, or one opened now."""
    return _current or open_session(run.recipe, Place(run.root).folder, run.key)
