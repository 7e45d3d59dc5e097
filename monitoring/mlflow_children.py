"""The runs of a recipe's stages in MLflow: which child a record belongs to, and what that child has already.

Records may be sent twice, late, and by another process than the one that made them. So the time at which something happened
decides, not the time at which it is sent: what happened before a child ended is that child's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lehr.monitoring.mlflow_keys import metric_key, tags_of
from lehr.monitoring.mlflow_points import LAST_STEP, Point, Points

STAGE, ATTEMPT, PROCESS, ROLE = "lehr.stage", "lehr.attempt", "lehr.process", "lehr.role"
PARENT_TAG = "mlflow.parentRunId"


@dataclass
class Child:
    """One attempt at a stage. `started` and `ended` in Unix milliseconds, `ended` None while it goes on."""

    run_id: str
    attempt: int
    started: int
    ended: int | None = None
    last_step: int = 0
    process: str = ""  # the newest that worked on it
    metrics: set[str] = field(default_factory=set)  # keys that MLflow has
    steps: dict[str, set[int]] = field(default_factory=dict)  # by key: those that MLflow has, read when first needed

    def over(self, at: int) -> bool:
        """Whether it had ended before that time."""
        return self.ended is not None and at > self.ended


class Children:
    """The children of one parent run. `process` names the process whose records are being sent."""

    def __init__(self, client: Any, experiment_id: str, parent_id: str, tags: Mapping[str, str], points: Points) -> None:
        """`tags` are set on every child."""
        self._client, self._experiment, self._parent, self._tags = client, experiment_id, parent_id, tags
        self._points, self.process = points, ""
        self._newest: dict[str, Child] = {}
        self._starts: dict[str, int] = {}  # of stages that began again although MLflow has them finished

    def newest(self, stage: str) -> Child | None:
        """The newest child of that stage, from memory or from MLflow."""
        if stage not in self._newest:
            found = self._search(stage, order_by=["attributes.start_time DESC"])
            if found is None:
                return None
            self._newest[stage] = self._known(found)
        return self._newest[stage]

    def begin(self, stage: str, at: int) -> Child | None:
        """The child of a stage that started at that time; None for one that has ended: probably it is reused, and only if it
        takes a step it is a new attempt."""
        child = self.newest(stage)
        if child is None:
            return self._make(stage, at, attempt=1)
        if child.over(at):
            self._starts[stage] = at
            return None
        if child.process != self.process:  # of a process that was killed: this one goes on with it
            child.attempt, child.process = child.attempt + 1, self.process
            self.tag(child.run_id, {ATTEMPT: str(child.attempt), PROCESS: self.process})
        return child

    def at(self, stage: str, at: int) -> Child:
        """The child that was at work at that time, made if there is none."""
        child = self.newest(stage)
        if child is None or child.over(at):
            child = self._make(stage, self._starts.pop(stage, at), child.attempt + 1 if child else 1)
        return child

    def log(self, child: Child, points: Sequence[Point]) -> None:
        """Send those points whose steps MLflow does not have: a resumed stage repeats some of its steps."""
        fresh = [point for point in points if point[3] not in self._steps(child, metric_key(point[0]))]
        self._points.log(child.run_id, fresh)
        for name, _, _, step in fresh:
            key = metric_key(name)
            child.steps[key].add(step)
            child.metrics.add(key)
        child.last_step = max([child.last_step, *(step for _, _, _, step in fresh if step <= LAST_STEP)])

    def end(self, child: Child, status: str, at: int) -> None:
        """Mark the child as ended at that time."""
        self._client.set_terminated(child.run_id, status, at)
        child.ended = at if status == "FINISHED" else None
        child.steps.clear()  # read again if anything comes late

    def end_all(self, status: str, at: int) -> None:
        """End those that are still at work."""
        for child in self._newest.values():
            if child.ended is None:
                self.end(child, status, at)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags in one call."""
        from mlflow.entities import RunTag

        if found := [RunTag(key, value) for key, value in tags_of(tags).items()]:
            self._client.log_batch(run_id, tags=found)

    def _steps(self, child: Child, key: str) -> set[int]:
        if key not in child.steps:
            history = self._client.get_metric_history(child.run_id, key) if key in child.metrics else ()
            child.steps[key] = {point.step for point in history}
        return child.steps[key]

    def _search(self, stage: str, attempt: int = 0, order_by: list[str] | None = None) -> Any:
        query = f"tags.`{PARENT_TAG}` = '{self._parent}' and tags.`{STAGE}` = '{stage}'"
        query += f" and tags.`{ATTEMPT}` = '{attempt}'" if attempt else ""
        found = self._client.search_runs([self._experiment], query, order_by=order_by, max_results=1)
        return found[0] if found else None

    def _known(self, run: Any) -> Child:
        ended = (run.info.end_time or run.info.start_time) if run.info.status == "FINISHED" else None
        if ended is None and run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        tags, latest = run.data.tags, run.data.metrics
        history = self._client.get_metric_history(run.info.run_id, "loss") if "loss" in latest else ()
        last = max((point.step for point in history), default=0)
        attempt, process = int(tags.get(ATTEMPT, "1")), tags.get(PROCESS, "")
        return Child(run.info.run_id, attempt, run.info.start_time, ended, last, process, set(latest))

    def _make(self, stage: str, at: int, attempt: int) -> Child:
        """Find or create that attempt: the answer to its creation may have been lost."""
        found = self._search(stage, attempt) if attempt > 1 else None
        if found is not None:
            child = self._known(found)
        else:
            own = {PARENT_TAG: self._parent, STAGE: stage, ATTEMPT: str(attempt), PROCESS: self.process, ROLE: "stage"}
            tags = tags_of({**self._tags, **own})
            run = self._client.create_run(self._experiment, start_time=at, tags=tags, run_name=stage)
            child = Child(run.info.run_id, attempt, at, process=self.process)
        self._newest[stage] = child
        return child
