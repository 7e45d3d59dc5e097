"""MLflow: one parent run per recipe, one child per stage, written by threads and never by the training step.

Every method of the port appends to a queue and returns. One thread writes what comes into a file in the run's folder
(`mlflow_spool`), the other opens the store, finds the parent run again by its run key after a restart, and sends from that file
in batches. A store that is down is tried again at growing intervals while the run goes on; what it did not get stays there.
Loading MLflow takes seconds of processor time, so the store is opened only when there is something to track: a stage has ended,
taken a step or been scored, or the run is a minute old. A run that fails earlier creates no MLflow file, but is recorded as
failed in an existing file and on a server.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - mlflow imports it, but its first import fails in an exit handler
import hashlib
import json
import logging
import shlex
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lehr.monitoring.gpus import Gpus
from lehr.monitoring.mlflow_delivery import Delivery, header_of
from lehr.monitoring.mlflow_errors import brief
from lehr.monitoring.mlflow_keys import flatten, now_ms
from lehr.monitoring.mlflow_opening import Wanted
from lehr.monitoring.mlflow_runs import too_long
from lehr.monitoring.mlflow_schema import sqlite_file
from lehr.monitoring.mlflow_spool import FOLDER, Spool
from lehr.monitoring.mlflow_store import absent_file
from lehr.monitoring.mlflow_thinning import Thinning
from lehr.monitoring.system_metrics import SystemMetrics
from lehr.runtime.redaction import masked
from lehr.runtime.text import visible

LOG = logging.getLogger("lehr.monitoring")
MAX_POINTS = 2000  # for each metric and stage
RETRY_SECONDS = 60.0  # the longest pause between two tries
OPEN_SECONDS = 60.0  # a first stage that takes longer is shown while it runs
SAMPLE_SECONDS = 10.0  # between two samples of system metrics, MLflow's own default
TICK_SECONDS = 0.25  # what a killed process loses at most
_SAMPLES = 1000  # after about so many the interval grows with the elapsed time, so that even a month has a few thousand
_UPLOAD_BYTES_PER_SECOND = 10e6  # the slowest upload of a model for which the end of a run waits


class SharedRun(Protocol):
    """A run that processes on several machines track at the same time. Called from the tracker's threads."""

    def elect(self, offer: str, is_there: Callable[[str], bool]) -> str:
        """See mlflow_opening.Elect."""
        ...

    def bring(self, folder: Path) -> None:
        """Fetch into `folder` what other processes could not send."""
        ...

    def keep(self, folder: Path) -> None:
        """Put what waits in `folder` where the next process finds it."""
        ...

    def sent(self, folder: Path) -> None:
        """What was fetched and is no longer in `folder` has been sent."""
        ...


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
        order: Sequence[str] = (),
        copies: Path | None = None,
        pending: Path | None = None,
        shared: SharedRun | None = None,
        gpus: Gpus | None = None,
        flush_seconds: float = 3.0,
        max_points: int = MAX_POINTS,
        sample_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        """`params` is the recipe, nested or flat. `run_key` identifies the run across restarts, in the tag `lehr.run_key`;
        without one it is made of the run's name and parameters. `order` has the stages in the graph's order. `copies` is this
        machine's folder of artifacts, by name, for those whose uri is not a path; the disk that holds it is monitored. What
        waits to be sent is in `pending`, by default beside the store's file. `artifact_location` is set if the store is a run's
        own file. Nothing of MLflow is imported or opened here.
        """
        flat = flatten(params or {})
        key = run_key or hashlib.sha256(json.dumps([run_name, flat], sort_keys=True).encode()).hexdigest()[:16]
        place = artifact_location, flat, dict(tags or {}), key
        wanted = Wanted(tracking_uri, experiment, run_name, *place, tuple(order), uuid.uuid4().hex)
        self._uri, self._max_points, self._copies, self._shared = tracking_uri, max_points, copies, shared
        self._pending = pending or _beside(tracking_uri)
        self._spool = Spool.new(self._pending, header_of(wanted))
        self._delivery = Delivery(wanted, self._say, shared.elect if shared else None)
        self._flush_seconds = self._pause_seconds = flush_seconds
        self._inbox: deque[dict[str, object]] = deque()  # append and popleft are atomic
        self._thinnings: dict[str, Thinning] = {}
        self._stage = ""  # the newest
        self._began: float | None = None  # the first stage's start
        self._system = SystemMetrics(copies or Path.cwd(), gpus)
        self._sample_seconds, self._made_at = sample_seconds, time.monotonic()
        self._sample_at = self._made_at + sample_seconds
        self._said: set[str] = set()
        self._down = self._wanted = self._looked = False
        self._why, self.delivered = "", False  # the second: once it is closed, whether MLflow has everything
        self._upload_bytes = 0
        self._closing, self._wake = threading.Event(), threading.Event()
        self._put_whole("", flat)
        self._threads = [threading.Thread(target=work, name="mlflow", daemon=True) for work in (self._write, self._send)]
        for thread in self._threads:
            thread.start()

    # -- the Tracker port: called by the training loop, returns at once

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        flat = flatten(params)
        self._began, self._stage = self._began or time.monotonic(), stage
        self._put("started", stage, total_steps=total_steps, params=flat)
        self._put_whole(stage, flat)

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if not metrics:
            return
        thinning = self._thinnings.get(stage)
        if thinning is None:
            thinning = self._thinnings[stage] = Thinning(total_steps, self._max_points)
        if kept := thinning.kept(step, total_steps, metrics):
            self._put("point", stage, step=step, metrics=dict(kept))
        self._wanted = True

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._put("point", stage, step=step, metrics=dict(metrics))
        self._wanted = True

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        self._thinnings.pop(stage, None)
        where = {"uri": uri, "folder": _path(self._folder(uri)), "reused": reused}
        self._put("made", stage, **where)
        self._put("finished", stage, **where, seconds=seconds)
        self._wanted = True

    def _folder(self, uri: str) -> Path | None:
        """This machine's copy of the artifact."""
        return self._copies / uri.rpartition("/")[2] if self._copies and "://" in uri else Path(uri) if uri else None

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        self._put("scores", stage, records=[dict(record) for record in records])
        self._wanted = True

    def note(self, text: str) -> None:
        return None

    # -- beyond the port

    def log_artifacts(self, paths: Sequence[str | Path]) -> None:
        """Copy files (report.html, the resolved recipe, scores.json ...) to the parent run, in the background thread."""
        self._put("artifacts", "", paths=[str(path) for path in paths])
        self._wanted = True

    def totals(self, values: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Metrics and tags of the parent run, on what the run as a whole took."""
        self._put("totals", "", values=dict(values), tags=dict(tags))
        self._wanted = True

    def register(self, name: str, stage: str, uri: str, folder: Path, alias: str = "") -> None:
        """Make the files in `folder`, the public copy of the artifact at `uri` that `stage` exported, a version of the
        registered model `name`, unless a version with its digest exists, and give it the alias. The files are copied to
        MLflow's artifact store."""
        artifact = self._folder(uri) or folder
        self._upload_bytes += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self._put("register", stage, name=name, alias=alias, uri=uri, folder=str(artifact), model=str(folder))
        self._wanted = True

    def close(self, *, failed: bool | None = False, timeout_seconds: float = 60.0) -> None:
        """Send what is left and end the parent run, unless `failed` is None. Waits for a slow store, but not for a dead one:
        what it did not get stays in the run's folder."""
        if self._closing.is_set():
            return
        if not self._wanted and (failed is None or (failed and absent_file(self._uri) is not None)):
            self._inbox.clear()  # nothing was made: not worth creating a file
        elif failed is not None:
            self._put("ended", "", failed=failed)
            self._wanted = True
        self._closing.set()
        deadline = time.monotonic() + timeout_seconds + self._upload_bytes / _UPLOAD_BYTES_PER_SECOND
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.delivered = not self.waiting and not self._spool.lost
        self._leave()

    @property
    def waiting(self) -> bool:
        """Whether anything was not sent yet."""
        return bool(self._inbox) or self._spool.waiting

    # -- the threads

    def _put(self, what: str, stage: str, **values: object) -> None:
        self._inbox.append({"do": what, "stage": stage, "at": now_ms(), **values})

    def _put_whole(self, stage: str, params: Mapping[str, str]) -> None:
        if texts := too_long(params):
            self._put("whole", stage, texts=texts)

    def _write(self) -> None:
        """The first thread: into the file."""
        last = False
        while not last:
            last = self._closing.wait(TICK_SECONDS)
            self._sample(last)
            if self._began is not None and time.monotonic() - self._began > OPEN_SECONDS:
                self._wanted = True
            if self._wanted and self._inbox:
                self._spool.append([self._inbox.popleft() for _ in range(len(self._inbox))])
        self._wake.set()

    def _sample(self, last: bool) -> None:
        """Queue a sample of system metrics when it is due; samples wait in the queue until there is something to track. Where
        several machines track a run each is its stage's, otherwise all are one curve of the run."""
        now = time.monotonic()
        if now < self._sample_at or last:
            return
        self._sample_at = now + max(self._sample_seconds, (now - self._made_at) / _SAMPLES)
        self._put("sampled", self._stage if self._shared else "", metrics=self._system.sample())

    def _send(self) -> None:
        """The second thread: out of the file, into MLflow."""
        last = False
        while not last:
            last = self._wake.wait(self._pause_seconds)
            try:
                self._deliver()
                self._pause_seconds, self._down = self._flush_seconds, False
            except Exception as error:  # noqa: BLE001 - no error of MLflow, its database or the network may stop training
                self._pause_seconds = min(self._pause_seconds * 2, RETRY_SECONDS)
                if last and not self._down:
                    self._why = f"{brief(error)}; "  # said with what follows from it, in one line
                elif not self._down:
                    self._say(f"{brief(error)}; what comes waits in {self._pending}, and is sent when it answers")
                self._down = True

    def _deliver(self) -> None:
        if not self._spool.waiting:
            return
        self._delivery.connect()
        if not self._looked:
            if self._shared:
                self._shared.bring(self._pending)
            if others := self._delivery.send_leftovers(self._pending):
                self._say(f"what waits in {self._pending} in {others} more files is meant for another server")
            if self._shared:
                self._shared.sent(self._pending)
            self._looked = True
        self._delivery.send(self._spool)

    def _leave(self) -> None:
        """Say what was not sent, and leave it where the next process looks."""
        if self._spool.lost:
            self._say(f"{self._spool.lost} records are lost: the disk of {self._pending} took none")
        if not self.waiting:
            self._spool.close()
            return
        run = "RUN" if self._shared else shlex.quote(str(self._pending.parent))
        left = f"not everything reached it before the end; `lehr mlflow {run} --send` sends what waits in {self._pending}"
        self._say(f"{self._why}{left}")
        if not any(thread.is_alive() for thread in self._threads):
            self._spool.close()
        try:
            if self._shared:
                self._shared.keep(self._pending)
        except Exception as error:  # noqa: BLE001 - the run is over and its own folder holds the full record
            self._say(f"nor could it be kept for later: {brief(error)}")

    def _say(self, text: str) -> None:
        """Each line once: a server that refuses one thing refuses it at every stage."""
        if text not in self._said:
            self._said.add(text)
            LOG.warning("MLflow at %s: %s", masked(self._uri), visible(masked(text)))


def _beside(tracking_uri: str) -> Path:
    """Where records wait by default: beside the store's file; for a server in a temporary folder."""
    file = sqlite_file(tracking_uri)
    return (file.parent if file else Path(tempfile.gettempdir()) / f"lehr-{uuid.uuid4().hex[:8]}") / FOLDER


def _path(path: Path | None) -> str:
    return str(path) if path else ""
