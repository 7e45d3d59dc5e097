"""A run in MLflow: the parent, its children and their curves. Called only from the tracker's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.monitoring.mlflow_keys import metric_key, now_ms
from lehr.monitoring.mlflow_opening import Wanted, log_params, open_parent
from lehr.monitoring.mlflow_products import DIGEST, URI, Products, read_manifest
from lehr.monitoring.system_metrics import PREFIX
from lehr.runtime.metrics import DEV

STAGE, ATTEMPT = "lehr.stage", "lehr.attempt"
SCORED = "lehr.scored."
PARENT_TAG = "mlflow.parentRunId"
_BATCH = 900  # metrics in one call; MLflow's limit is 1000
Point = tuple[int, int, dict[str, float]]  # unix milliseconds, step, metrics


@dataclass
class Curve:
    """Points of one stage that wait to be sent. Every `stride`-th step is kept."""

    stage: str
    stride: int
    points: deque[Point] = field(default_factory=deque)  # the training loop appends here; append and popleft are atomic
    outbox: list[Point] = field(default_factory=list)  # used by the sending thread only


@dataclass
class _Child:
    run_id: str
    finished: bool
    attempt: int
    last_step: int = -1  # MLflow has the points up to this step: a resumed stage repeats some steps
    evaluated: int = -1  # MLflow has the measurements on development data up to this step
    metrics: set[str] = field(default_factory=set)
    resumes: bool = False  # reopened after a restart, and nothing of this attempt was sent yet


class Runs:
    """One parent run and its children, over an MlflowClient."""

    def __init__(self, client: Any, experiment_id: str, parent_id: str, tags: dict[str, str]) -> None:
        """`tags` are set on every child."""
        self._client, self._experiment, self.parent_id, self._tags = client, experiment_id, parent_id, tags
        self._children: dict[str, _Child] = {}
        self._pending: dict[str, tuple[float, dict[str, str]]] = {}  # started again although MLflow has them finished
        self._products = Products(client, experiment_id, parent_id)
        known = client.get_run(parent_id).data
        # stage -> its step on the parent's score curves, kept in the parent's tags so that a restart continues the numbering
        self._scored = {key.removeprefix(SCORED): int(value) for key, value in known.tags.items() if key.startswith(SCORED)}
        sampled = next((key for key in known.metrics if key.startswith(PREFIX)), None)
        self._samples = 1 + self._last_step(parent_id, [sampled]) if sampled else 0

    @classmethod
    def open(cls, wanted: Wanted) -> Runs:
        """See open_parent."""
        return cls(*open_parent(wanted))

    # -- stages

    def stage_started(self, stage: str, began: float, total_steps: int, params: dict[str, str]) -> None:
        params = {**params, "total_steps": str(total_steps)} if total_steps else params
        child = self._child(stage)
        if child is not None and child.finished:
            self._pending[stage] = (began, params)  # probably reused: only if the stage takes a step it is a new attempt
        elif child is None:
            self._make_child(stage, began, params, attempt=1)
        elif child.resumes:
            self._client.set_tag(child.run_id, ATTEMPT, str(child.attempt + 1))
            child.resumes = False

    def send(self, curve: Curve) -> None:
        """Send the curve's waiting points; they are removed only after MLflow has accepted them."""
        while curve.points:
            curve.outbox.append(curve.points.popleft())
        if not curve.outbox:
            return
        child = self._working_child(curve.stage)
        fresh = [point for point in curve.outbox if point[1] > child.last_step]
        self._log_metrics(child.run_id, [(key, value, at, step) for at, step, row in fresh for key, value in row.items()])
        child.last_step = max([child.last_step, *(step for _, step, _ in fresh)])
        curve.outbox.clear()

    def evaluated(self, stage: str, step: int, at: int, metrics: Mapping[str, float]) -> None:
        """Send what was measured on development data after `step`, unless an earlier attempt already measured that step. `at`
        in Unix milliseconds."""
        child = self._working_child(stage)
        if step > child.evaluated:
            self._log_metrics(child.run_id, [(key, value, at, step) for key, value in metrics.items()])
            child.evaluated = step

    def sampled(self, at: int, sample: Mapping[str, float]) -> None:
        """System metrics, on the parent, as one curve of the whole run. `at` in Unix milliseconds."""
        self._log_metrics(self.parent_id, [(key, value, at, self._samples) for key, value in sample.items()])
        self._samples += 1

    def products(self, stage: str, uri: str, folder: Path | None, reused: bool) -> None:
        """Record what the stage read and made; see Products. Must come before `stage_finished`: a child marked as finished
        counts as complete."""
        self._products.made(stage, uri, read_manifest(folder))
        child = self._child(stage)
        if not (reused and child is not None and child.finished):
            child = self._working_child(stage)
            self._products.link(stage, child.run_id, folder, max(child.last_step, 0))

    def register(self, name: str, stage: str, uri: str, artifact: Path, folder: Path) -> None:
        """Register the model in `folder` as a version of the registered model `name`. `artifact` is the folder of `stage`'s
        artifact, of which `folder` is a copy: the process that publishes a run may not have exported it."""
        self._products.made(stage, uri, read_manifest(artifact))
        child = self._child(stage) or self._make_child(stage, None, {}, attempt=1)
        self._products.register(name, stage, child.run_id, folder)

    def stage_finished(self, stage: str, uri: str, folder: Path | None, reused: bool, seconds: float) -> None:
        """`folder` is this machine's copy of the artifact, if there is one."""
        child = self._child(stage)
        if reused and child is not None and child.finished:
            self._pending.pop(stage, None)
            return  # MLflow has this stage from the run that made it
        child = self._working_child(stage)
        manifest = read_manifest(folder)
        cost = manifest.get("cost", {})
        values = {
            "stage_seconds": seconds,
            **{f"stage_{key}": cost[key] for key in ("tokens", "energy_joules", "flops") if key in cost},
        }
        self._log_metrics(
            child.run_id, [(key, float(value), now_ms(), max(child.last_step, 0)) for key, value in values.items()]
        )
        tags = {URI: uri, DIGEST: manifest.get("digest", ""), "lehr.reused": str(reused).lower()}
        tags["energy.source"] = cost.get("energy_source", "")
        for key, value in tags.items():
            if value:
                self._client.set_tag(child.run_id, key, value)
        self._client.set_terminated(child.run_id, "FINISHED")
        child.finished = True

    def scored(self, stage: str, records: Sequence[Mapping[str, object]]) -> None:
        """Scores on the stage's run and its logged model, and on the parent with the stage's number as the step: a curve over
        the pipeline."""
        child = self._child(stage) or self._make_child(stage, None, {}, attempt=1)
        fresh = {name: value for name, value in _rows(records).items() if metric_key(name) not in child.metrics}
        if not fresh:
            return
        place = self._scored.setdefault(stage, len(self._scored))
        model = self._products.model_of(stage)
        for task in dict.fromkeys(task for task, _ in fresh.values()):
            rows = [(name, value, now_ms(), 0) for name, (of, value) in fresh.items() if of == task]
            self._log_metrics(child.run_id, rows, model, *self._products.scored_on(task))
        self._log_metrics(self.parent_id, [(name, value, now_ms(), place) for name, (_, value) in fresh.items()])
        self._client.set_tag(self.parent_id, f"{SCORED}{stage}", str(place))
        child.metrics.update(map(metric_key, fresh))

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
        keys, run_id = [key for key in run.data.metrics if not key.startswith(("score/", "stage_"))], run.info.run_id
        curves = sorted((key for key in keys if not key.startswith(DEV)), key=lambda key: key != "loss")
        finished = run.info.status == "FINISHED"
        if not finished:
            self._client.update_run(run_id, status="RUNNING")
        return _Child(
            run_id,
            finished,
            int(run.data.tags.get(ATTEMPT, "1")),
            self._last_step(run_id, curves[:3]),
            self._last_step(run_id, [key for key in keys if key.startswith(DEV)][:1]),
            set(run.data.metrics),
            resumes=not finished,
        )

    def _last_step(self, run_id: str, keys: Sequence[str]) -> int:
        """The largest step that MLflow has for any of `keys`; -1 for none."""
        return max((point.step for key in keys for point in self._client.get_metric_history(run_id, key)), default=-1)

    def _working_child(self, stage: str) -> _Child:
        """The child for this attempt's points; if the newest one is finished, a new one is created."""
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
        log_params(self._client, child.run_id, params)
        return child

    def _log_metrics(
        self,
        run_id: str,
        rows: Sequence[tuple[str, float, int, int]],
        model: str | None = None,
        dataset: str | None = None,
        digest: str | None = None,
    ) -> None:
        """`rows` are name, value, Unix milliseconds and step; `model` is the ID of the logged model that they describe, if any,
        and `dataset` with its `digest` the data on which they were measured."""
        from mlflow.entities import Metric

        of = {"model_id": model, "dataset_name": dataset, "dataset_digest": digest} if model else {}
        for at in range(0, len(rows), _BATCH):
            metrics = [Metric(metric_key(key), *rest, **of) for key, *rest in rows[at : at + _BATCH]]
            self._client.log_batch(run_id, metrics=metrics)


def _rows(records: Sequence[Mapping[str, object]]) -> dict[str, tuple[str, float]]:
    """Task and value of each score and of its standard error, by its name in MLflow."""
    rows = {}
    for record in records:
        task = str(record.get("task"))
        for key, suffix in (("value", ""), ("stderr", "_stderr")):
            value = record.get(key)
            if isinstance(value, int | float):
                rows[f"score/{task}/{record.get('split')}/{record.get('metric')}{suffix}"] = task, float(value)
    return rows
