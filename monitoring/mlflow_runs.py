"""What MLflow holds of a run: the parent, its children and their curves. Called only from the tracker's thread."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import MANIFEST
from lehr.monitoring.mlflow_store import prepare, set_environment, tidy
from lehr.runtime.errors import UserError

RUN_KEY, STAGE, ATTEMPT = "lehr.run_key", "lehr.stage", "lehr.attempt"
SCORED = "lehr.scored."
PARENT_TAG = "mlflow.parentRunId"
_BATCH = 900  # metrics a call; MLflow's limit is 1000
_PARAM_CHARACTERS, _KEY_CHARACTERS = 6000, 250
Point = tuple[int, int, dict[str, float]]  # unix milliseconds, step, metrics


@dataclass
class Curve:
    """Points of one stage that wait to be sent. Every `stride`-th step is kept."""

    stage: str
    stride: int
    points: deque[Point] = field(default_factory=deque)  # the training loop appends here
    outbox: list[Point] = field(default_factory=list)  # the sender's own: nobody appends while it is read


def key_of(name: str) -> str:
    """`name` as MLflow takes a key: a clean path of letters, digits and `_.-: /`. One that had to be changed ends in a hash, so
    that no two become one."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    clean = "/".join(parts)
    if clean == name and len(name) <= _KEY_CHARACTERS:
        return name
    return f"{clean[: _KEY_CHARACTERS - 9].rstrip('/')}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys with text values, cut to what MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[key_of(name)] = str(value)[:_PARAM_CHARACTERS]
    return flat


@dataclass
class _Child:
    run_id: str
    finished: bool
    attempt: int
    last_step: int = -1  # points up to here are in MLflow already: a resumed stage repeats some steps
    metrics: set[str] = field(default_factory=set)
    resumes: bool = False  # opened again after a restart, and nothing of this attempt sent yet


class Runs:
    """One parent run and its children, over an MlflowClient."""

    def __init__(self, client: Any, experiment_id: str, parent_id: str, tags: dict[str, str]) -> None:
        """`tags` go on every child."""
        self._client, self._experiment, self.parent_id, self._tags = client, experiment_id, parent_id, tags
        self._children: dict[str, _Child] = {}
        self._pending: dict[str, tuple[float, dict[str, str]]] = {}  # stages begun again though MLflow has them finished
        known = client.get_run(parent_id).data.tags.items()
        # stage -> its place on the parent's score curves; kept there, so that a restart goes on counting
        self._scored = {key.removeprefix(SCORED): int(value) for key, value in known if key.startswith(SCORED)}

    @classmethod
    def open(
        cls,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        artifact_location: str | None,
        params: dict[str, str],
        tags: dict[str, str],
        run_key: str,
    ) -> Runs:
        """Connect, find or make the experiment and the parent run with this key. Raises what MLflow raises."""
        set_environment()
        prepare(tracking_uri)
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        if known and known.lifecycle_stage == "deleted":
            again = f"restore it with `mlflow experiments restore --experiment-id {known.experiment_id}`"
            raise UserError(f"the experiment {experiment!r} was deleted", remedy=f"{again}, or remove it for good")
        experiment_id = known.experiment_id if known else client.create_experiment(experiment, artifact_location)
        tags = {**tags, RUN_KEY: run_key}
        tidy(tracking_uri)
        parent_id = _find_or_make_parent(client, experiment_id, run_name, tags)
        _log_params(client, parent_id, params)
        return cls(client, experiment_id, parent_id, tags)

    # -- stages

    def stage_started(self, stage: str, began: float, total_steps: int, params: dict[str, str]) -> None:
        params = {**params, "total_steps": str(total_steps)} if total_steps else params
        child = self._child(stage)
        if child is not None and child.finished:
            self._pending[stage] = (began, params)  # found again, most likely: a new attempt only if it takes a step
        elif child is None:
            self._make_child(stage, began, params, attempt=1)
        elif child.resumes:
            self._client.set_tag(child.run_id, ATTEMPT, str(child.attempt + 1))
            child.resumes = False

    def send(self, curve: Curve) -> None:
        """Send the curve's waiting points; they are forgotten only when MLflow has them."""
        while curve.points:
            curve.outbox.append(curve.points.popleft())
        if not curve.outbox:
            return
        child = self._working_child(curve.stage)
        fresh = [point for point in curve.outbox if point[1] > child.last_step]
        self._log_metrics(child.run_id, [(key, value, at, step) for at, step, row in fresh for key, value in row.items()])
        child.last_step = max([child.last_step, *(step for _, step, _ in fresh)])
        curve.outbox.clear()

    def stage_finished(self, stage: str, uri: str, folder: Path | None, reused: bool, seconds: float) -> None:
        """`folder` is where this machine has the artifact, if it has it."""
        child = self._child(stage)
        if reused and child is not None and child.finished:
            self._pending.pop(stage, None)
            return  # MLflow has this stage from the run that made it
        child = self._working_child(stage)
        manifest = _read_manifest(folder)
        cost = manifest.get("cost", {})
        values = {
            "stage_seconds": seconds,
            **{f"stage_{key}": cost[key] for key in ("tokens", "energy_joules", "flops") if key in cost},
        }
        self._log_metrics(
            child.run_id, [(key, float(value), _now_ms(), max(child.last_step, 0)) for key, value in values.items()]
        )
        tags = {"artifact.uri": uri, "artifact.digest": manifest.get("digest", ""), "lehr.reused": str(reused).lower()}
        tags["energy.source"] = cost.get("energy_source", "")
        for key, value in tags.items():
            if value:
                self._client.set_tag(child.run_id, key, value)
        self._client.set_terminated(child.run_id, "FINISHED")
        child.finished = True

    def scored(self, stage: str, records: Sequence[Mapping[str, object]]) -> None:
        """Scores on the stage's run, and on the parent with the stage's place as the step: a curve over the pipeline."""
        child = self._child(stage) or self._make_child(stage, None, {}, attempt=1)
        rows: dict[str, float] = {}
        for record in records:
            name = f"score/{record.get('task')}/{record.get('split')}/{record.get('metric')}"
            for key, suffix in (("value", ""), ("stderr", "_stderr")):
                value = record.get(key)
                if isinstance(value, int | float):
                    rows[name + suffix] = float(value)
        fresh = {key: value for key, value in rows.items() if key_of(key) not in child.metrics}
        if not fresh:
            return
        place = self._scored.setdefault(stage, len(self._scored))
        self._log_metrics(child.run_id, [(key, value, _now_ms(), 0) for key, value in fresh.items()])
        self._log_metrics(self.parent_id, [(key, value, _now_ms(), place) for key, value in fresh.items()])
        self._client.set_tag(self.parent_id, f"{SCORED}{stage}", str(place))
        child.metrics.update(map(key_of, fresh))

    def artifacts(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.is_file():
                self._client.log_artifact(self.parent_id, str(path))

    def finish(self, failed: bool) -> None:
        status = "FAILED" if failed else "FINISHED"
        for child in self._children.values():
            if not child.finished:
                self._client.set_terminated(child.run_id, status)
        self._client.set_terminated(self.parent_id, status)

    # -- children

    def _child(self, stage: str) -> _Child | None:
        """The newest child of that stage, from memory or from MLflow."""
        if stage not in self._children:
            query = f"tags.`{PARENT_TAG}` = '{self.parent_id}' and tags.`{STAGE}` = '{stage}'"
            found = self._client.search_runs([self._experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
            if not found:
                return None
            self._children[stage] = self._known(found[0])
        return self._children[stage]

    def _known(self, run: Any) -> _Child:
        curves = sorted(
            (key for key in run.data.metrics if not key.startswith(("score/", "stage_"))), key=lambda key: key != "loss"
        )
        last = max(
            (point.step for key in curves[:3] for point in self._client.get_metric_history(run.info.run_id, key)), default=-1
        )
        finished = run.info.status == "FINISHED"
        if not finished:
            self._client.update_run(run.info.run_id, status="RUNNING")
        attempt = int(run.data.tags.get(ATTEMPT, "1"))
        return _Child(run.info.run_id, finished, attempt, last, set(run.data.metrics), resumes=not finished)

    def _working_child(self, stage: str) -> _Child:
        """The child that takes this attempt's points: a finished one is left alone and a new attempt made."""
        child = self._child(stage)
        if child is not None and not child.finished:
            return child
        began, params = self._pending.pop(stage, (None, {}))
        return self._make_child(stage, began, params, attempt=child.attempt + 1 if child else 1)

    def _make_child(self, stage: str, began: float | None, params: dict[str, str], attempt: int) -> _Child:
        tags = {**self._tags, PARENT_TAG: self.parent_id, STAGE: stage, ATTEMPT: str(attempt)}
        start = int(began * 1000) if began is not None else None
        run = self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=stage)
        child = self._children[stage] = _Child(run.info.run_id, False, attempt)
        _log_params(self._client, child.run_id, params)
        return child

    def _log_metrics(self, run_id: str, rows: Sequence[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for at in range(0, len(rows), _BATCH):
            metrics = [Metric(key_of(key), value, timestamp, step) for key, value, timestamp, step in rows[at : at + _BATCH]]
            self._client.log_batch(run_id, metrics=metrics)


def _find_or_make_parent(client: Any, experiment_id: str, run_name: str, tags: dict[str, str]) -> str:
    """The parent with this run key. Of several made at once by racing tasks, the first one wins."""
    query = f"tags.`{RUN_KEY}` = '{tags[RUN_KEY]}' and tags.`lehr.role` = 'recipe'"
    order = ["attributes.start_time ASC"]
    found = client.search_runs([experiment_id], query, order_by=order, max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    made = client.create_run(experiment_id, tags={**tags, "lehr.role": "recipe"}, run_name=run_name)
    first = client.search_runs([experiment_id], query, order_by=order, max_results=1)[0]
    if first.info.run_id != made.info.run_id:
        client.delete_run(made.info.run_id)
    return str(first.info.run_id)


def _log_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    """Parameters cannot change in MLflow: those that it has stay as they are."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    fresh = [Param(key, value) for key, value in params.items() if key not in known and value != ""]
    for at in range(0, len(fresh), 100):
        client.log_batch(run_id, params=fresh[at : at + 100])


def _read_manifest(folder: Path | None) -> dict[str, Any]:
    """The artifact's manifest if it lies on this machine: its digest and cost go to MLflow, its content does not."""
    if folder is None or not (folder / MANIFEST).is_file():
        return {}
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest if isinstance(manifest, dict) else {}


def _now_ms() -> int:
    return int(time.time() * 1000)
