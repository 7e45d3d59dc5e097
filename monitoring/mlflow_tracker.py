"""MLflow: one parent run per recipe, one child per stage, written by a background thread and never by the training step.

Every method of the port appends to a queue and returns. The thread opens the store, finds the parent run again by its
run key after a restart, and sends curves in batches. A store that is down is tried again at growing intervals while the
run goes on; the run's own folder holds the full record either way.
Loading MLflow takes seconds of processor time, so the store is opened only when there is something to track: a stage has ended,
taken a step or been scored, or the run is a minute old. A run that fails earlier creates no MLflow file, but is recorded as
failed in an existing file and on a server.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - mlflow imports it, but its first import fails in an exit handler
import hashlib
import json
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.monitoring.gpus import Gpus
from lehr.monitoring.mlflow_keys import flatten, now_ms
from lehr.monitoring.mlflow_opening import Wanted
from lehr.monitoring.mlflow_products import LACKS
from lehr.monitoring.mlflow_runs import Curve, Runs
from lehr.monitoring.mlflow_store import absent_file
from lehr.monitoring.system_metrics import SystemMetrics
from lehr.runtime.redaction import masked
from lehr.runtime.text import visible

LOG = logging.getLogger("lehr.monitoring")
MAX_POINTS = 2000  # for each metric and stage: MLflow's charts freeze with more (mlflow#9779)
RETRY_SECONDS = 60.0  # the longest pause between two tries
OPEN_SECONDS = 60.0  # a first stage that takes longer is shown while it runs
SAMPLE_SECONDS = 10.0  # between two samples of system metrics, MLflow's own default
_SAMPLES = 1000  # after about so many the interval grows with the elapsed time, so that even a month has a few thousand
_UPLOAD_BYTES_PER_SECOND = 10e6  # the slowest upload of a model for which the end of a run waits
_NEVER = frozenset({"INVALID_PARAMETER_VALUE"})  # MLflow's error codes that no repetition can change


@dataclass(frozen=True)
class Event:
    """A call to be made in MLflow's thread. `extra`: the record of a run is complete without it."""

    tell: Callable[[Runs], None]
    extra: bool = False

    def hopeless(self, error: Exception) -> bool:
        """Whether to drop the event with a warning instead of trying it again: it must not block the queue for ever."""
        code = getattr(error, "error_code", "")
        if not self.extra:
            return code in _NEVER
        local = isinstance(error, shutil.Error) or (isinstance(error, OSError) and error.filename is not None)
        return code in _NEVER | LACKS or local or isinstance(error, LookupError | TypeError | ValueError | AttributeError)


class MlflowTracker:
    """The Tracker port on MLflow (full `mlflow`, or `mlflow-skinny` with sqlalchemy and alembic)."""

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        artifact_location: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        run_key: str = "",
        copies: Path | None = None,
        gpus: Gpus | None = None,
        flush_seconds: float = 3.0,
        max_points: int = MAX_POINTS,
        sample_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        """`params` is the recipe, nested or flat. `run_key` identifies the run across restarts, in the tag `lehr.run_key`;
        without one it is made of the run's name and parameters. `copies` is this machine's folder of artifacts, by name, for
        those whose uri is not a path; the disk that holds it is monitored. `artifact_location` is set if the store is a run's
        own file. Nothing of MLflow is imported or opened here.
        """
        flat = flatten(params or {})
        key = run_key or hashlib.sha256(json.dumps([run_name, flat], sort_keys=True).encode()).hexdigest()[:16]
        wanted = Wanted(tracking_uri, experiment, run_name, artifact_location, flat, dict(tags or {}), key)
        self._open: Callable[[], Runs] = lambda: Runs.open(wanted)
        self._uri, self._max_points, self._copies = tracking_uri, max_points, copies
        self._flush_seconds = self._pause_seconds = flush_seconds
        self._events: deque[Event] = deque()
        self._runs: Runs | None = None
        self._curves: dict[str, Curve] = {}
        self._began: float | None = None  # the first stage's start
        self._system = SystemMetrics(copies or Path.cwd(), gpus)
        self._sample_seconds, self._made_at = sample_seconds, time.monotonic()
        self._sample_at = self._made_at + sample_seconds
        self._warned = self._wanted = False
        self._upload_bytes = 0
        self._closing, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    # -- the Tracker port: called by the training loop, returns at once

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        began, flat = time.time(), flatten(params)
        self._began = self._began or time.monotonic()
        self._events.append(Event(lambda runs: runs.stage_started(stage, began, total_steps, flat)))

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self._wanted |= bool(metrics)
        curve = self._curves.get(stage)
        if curve is None:
            curve = self._curves[stage] = Curve(stage, -(-total_steps // self._max_points) if total_steps > 0 else 1)
            made = curve
            self._events.append(Event(lambda runs: runs.send(made)))
        if step % curve.stride == 0 or step == total_steps:
            curve.points.append((now_ms(), step, dict(metrics)))

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        at, copy = now_ms(), dict(metrics)
        self._events.append(Event(lambda runs: runs.evaluated(stage, step, at, copy)))
        self._wanted = True

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        curve = self._curves.pop(stage, None)
        folder = self._folder(uri)
        if curve is not None:
            self._events.append(Event(lambda runs: runs.send(curve)))
        self._events.append(Event(lambda runs: runs.products(stage, uri, folder, reused), extra=True))
        self._events.append(Event(lambda runs: runs.stage_finished(stage, uri, folder, reused, seconds)))
        self._wanted = True

    def _folder(self, uri: str) -> Path | None:
        """This machine's copy of the artifact."""
        return self._copies / uri.rpartition("/")[2] if self._copies and "://" in uri else Path(uri) if uri else None

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        copies = [dict(record) for record in records]
        self._events.append(Event(lambda runs: runs.scored(stage, copies)))
        self._wanted = True

    def note(self, text: str) -> None:
        return None

    # -- beyond the port

    def log_artifacts(self, paths: Sequence[str | Path]) -> None:
        """Copy files (report.html, the resolved recipe, scores.json ...) to the parent run, in the background thread."""
        files = [Path(path) for path in paths]
        self._events.append(Event(lambda runs: runs.artifacts(files)))
        self._wanted = True

    def register(self, name: str, stage: str, uri: str, folder: Path) -> None:
        """Make the files in `folder`, the public copy of the artifact at `uri` that `stage` exported, a version of the
        registered model `name`, unless a version with its digest exists. They are copied to MLflow's artifact store."""
        artifact = self._folder(uri) or folder
        self._upload_bytes += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self._events.append(Event(lambda runs: runs.register(name, stage, uri, artifact, folder), extra=True))
        self._wanted = True

    def close(self, *, failed: bool | None = False, timeout_seconds: float = 60.0) -> None:
        """Send what is left and end the parent run, unless `failed` is None. Waits for a slow store, but not for a dead one."""
        if self._closing.is_set():
            return
        if failed and not self._wanted and absent_file(self._uri) is not None:
            self._events.clear()  # nothing was made: not worth creating a file
        elif failed is not None:
            self._events.append(Event(lambda runs: runs.finish(failed)))
            self._wanted = True
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_seconds + self._upload_bytes / _UPLOAD_BYTES_PER_SECOND)
        if self._thread.is_alive() or self._events:
            self._warn("not everything reached it before the run ended; the run's folder holds the full record")

    # -- the background thread

    def _work(self) -> None:
        while True:
            self._wake.wait(self._pause_seconds)
            last = self._closing.is_set()
            self._sample(last)
            try:
                self._flush()
                self._pause_seconds = self._flush_seconds
            except Exception as error:  # noqa: BLE001 - no error of MLflow, its database or the network may stop training
                self._warn(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}; trying again silently")
                self._pause_seconds = min(self._pause_seconds * 2, RETRY_SECONDS)
            if last:
                return

    def _sample(self, last: bool) -> None:
        """Queue a sample of system metrics when it is due; samples wait in the queue until the store is opened."""
        now = time.monotonic()
        if now < self._sample_at or last:
            return
        self._sample_at = now + max(self._sample_seconds, (now - self._made_at) / _SAMPLES)
        at, sample = now_ms(), self._system.sample()
        self._events.append(Event(lambda runs: runs.sampled(at, sample)))

    def _flush(self) -> None:
        if self._began is not None and time.monotonic() - self._began > OPEN_SECONDS:
            self._wanted = True
        if self._runs is None and self._events and self._wanted:
            self._runs = self._open()
        if self._runs is None:
            return
        while self._events:
            try:
                self._events[0].tell(self._runs)  # stays in the queue until it has succeeded ...
            except Exception as error:
                if not self._events[0].hopeless(error):
                    raise
                self._warn(f"refused: {(str(error).splitlines() or [''])[0][:300]}")  # ... or can never succeed
            self._events.popleft()
        for curve in list(self._curves.values()):
            self._runs.send(curve)

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            LOG.warning("MLflow at %s: %s", masked(self._uri), visible(masked(text)))
