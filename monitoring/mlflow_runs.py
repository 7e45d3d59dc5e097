"""A run in MLflow: the parent, its children and their curves, made of the tracker's records.

Called only from the thread that sends. Each record may be sent again after an error, or by the next process: what MLflow has
already is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lehr.monitoring.mlflow_children import Child, Children
from lehr.monitoring.mlflow_errors import brief, code_of, refused
from lehr.monitoring.mlflow_keys import PARAM_CHARACTERS, Changes, key_of, metric_key
from lehr.monitoring.mlflow_opening import Elect, Opened, Wanted, open_parent
from lehr.monitoring.mlflow_points import Points
from lehr.monitoring.mlflow_products import DIGEST, URI, Products, read_manifest
from lehr.monitoring.mlflow_spool import Record

SCORED = "lehr.scored."
_PARAMS = 100  # in one call; MLflow's limit
_NAMES = 100  # changed names that are recorded on one run
_NAME = "lehr.name."
RECORDS = frozenset({"started", "sampled", "made", "finished", "scores", "artifacts", "whole", "register", "totals", "ended"})
EXTRA = frozenset({"made", "register", "whole"})  # records without which that of the run is complete


class Runs:
    """One parent run and its children, over an MlflowClient."""

    def __init__(self, opened: Opened, wanted: Wanted, say: Callable[[str], None]) -> None:
        self._client, self.parent_id, self._wanted = opened.client, opened.parent_id, wanted
        self._changes = Changes(say)
        self._points = Points(opened.client, wanted.tracking_uri, self._changes)
        self._children = Children(opened.client, opened.experiment_id, opened.parent_id, opened.tags, self._points)
        self.process(wanted)
        self._products = Products(opened.client, opened.experiment_id, opened.parent_id)
        known = opened.client.get_run(opened.parent_id)
        self._began = int(known.info.start_time)
        # stage -> its step on the parent's score curves, if the recipe's graph does not tell
        tags = known.data.tags
        self._scored = {key.removeprefix(SCORED): int(value) for key, value in tags.items() if key.startswith(SCORED)}
        self._params: dict[str, dict[str, str]] = {}  # of stages that may not have a child of this attempt yet
        self._changes.tags(opened.tags)
        self._log_params(self.parent_id, wanted.params)

    @classmethod
    def open(cls, wanted: Wanted, say: Callable[[str], None], elect: Elect | None = None) -> Runs:
        """See open_parent."""
        return cls(open_parent(wanted, elect), wanted, say)

    def process(self, wanted: Wanted) -> None:
        """The records that follow are those of another process of the same run."""
        self._children.process = wanted.process

    def answers(self) -> bool:
        """Whether MLflow answers a question about this run."""
        try:
            self._client.get_run(self.parent_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, there was no answer
            return refused(error)
        return True

    def take(self, records: Sequence[Record]) -> None:
        """Send one record, or several of points of one stage. Raises MLflow's errors."""
        first = records[0]
        if (what := first.get("do")) == "point":
            self._curve(records)
        elif what in RECORDS:
            getattr(self, f"_{what}")(first)
        self._changes.tell()

    # -- RECORDS

    def _started(self, record: Record) -> None:
        stage, total = record["stage"], record["total_steps"]
        self._params[stage] = {**record["params"], "total_steps": str(total)} if total else record["params"]
        if child := self._children.begin(stage, record["at"]):
            self._with_params(stage, child)

    def _curve(self, records: Sequence[Record]) -> None:
        stage = records[0]["stage"]
        child = self._child(stage, records[0]["at"])
        rows = [(name, value, r["at"], r["step"]) for r in records for name, value in r["metrics"].items()]
        self._children.log(child, rows)
        self._record_names(child.run_id)

    def _sampled(self, record: Record) -> None:
        """System metrics: of the whole run, or in a pod of its stage; the step is the time since the beginning, in seconds."""
        stage, at = record["stage"], record["at"]
        child = self._newest(stage, at) if stage else None
        run_id, began = (child.run_id, child.started) if child else (self.parent_id, self._began)
        step = max(0, at - began) // 1000
        self._points.log(run_id, [(name, value, at, step) for name, value in record["metrics"].items()])

    def _products_of(self, record: Record) -> tuple[str, Path | None]:
        folder = Path(record["folder"]) if record["folder"] else None
        self._products.made(record["stage"], record["uri"], read_manifest(folder))
        return record["stage"], folder

    def _made(self, record: Record) -> None:
        """What the stage read and made; see Products. Comes before `finished`: a finished child counts as complete."""
        stage, folder = self._products_of(record)
        if not self._has(record):
            child = self._child(stage, record["at"])
            self._products.link(stage, child.run_id, folder, child.last_step)

    def _finished(self, record: Record) -> None:
        if self._has(record):
            self._params.pop(record["stage"], None)
            return  # MLflow has this stage from the run that made it
        stage, at = record["stage"], record["at"]
        child = self._child(stage, at)
        manifest = read_manifest(Path(record["folder"])) if record["folder"] else {}
        cost = manifest.get("cost", {})
        values = {"stage_seconds": record["seconds"]}
        values |= {f"stage_{key}": cost[key] for key in ("tokens", "energy_joules", "flops") if key in cost}
        self._points.log(child.run_id, [(key, float(value), at, child.last_step) for key, value in values.items()])
        tags = {
            URI: record["uri"],
            DIGEST: manifest.get("digest", ""),
            "lehr.reused": str(record["reused"]).lower(),
            "lehr.stage_kind": manifest.get("stage_kind", ""),
            "energy.source": cost.get("energy_source", ""),
        }
        self._children.tag(child.run_id, tags)
        self._children.end(child, "FINISHED", at)

    def _scores(self, record: Record) -> None:
        """Scores on the stage's run and its logged model, and on the parent with the stage's place in the graph as the step: a
        curve over the pipeline."""
        stage, at = record["stage"], record["at"]
        child = self._newest(stage, at)
        fresh = {name: row for name, row in _rows(record["records"]).items() if metric_key(name) not in child.metrics}
        if not fresh:
            return
        place = self._place(stage)
        # The parent first: once the child has a score, it is not sent again.
        self._points.log(self.parent_id, [(name, value, at, place) for name, (_, value) in fresh.items()])
        model = self._products.model_of(stage)
        for task in dict.fromkeys(task for task, _ in fresh.values()):
            rows = [(name, value, at, 0) for name, (of, value) in fresh.items() if of == task]
            self._points.log(child.run_id, rows, self._about(model, task))
        child.metrics.update(map(metric_key, fresh))
        self._record_names(child.run_id)

    def _artifacts(self, record: Record) -> None:
        for path in map(Path, record["paths"]):
            if path.is_file():
                self._client.log_artifact(self.parent_id, str(path))

    def _totals(self, record: Record) -> None:
        """What the run as a whole took; of several publications the newest is what MLflow shows."""
        at = record["at"]
        step = max(0, at - self._began) // 1000
        self._points.log(self.parent_id, [(name, value, at, step) for name, value in record["values"].items()])
        self._children.tag(self.parent_id, record["tags"])

    def _whole(self, record: Record) -> None:
        """Values that are longer than MLflow's parameters may be, as text files."""
        run_id = self._newest(record["stage"], record["at"]).run_id if record["stage"] else self.parent_id
        for name, text in record["texts"].items():
            self._client.log_text(run_id, text, f"params/{key_of(name).replace('/', '_')}.txt")

    def _register(self, record: Record) -> None:
        """The model in `model`, a copy of the artifact in `folder`: the process that publishes may not have exported it."""
        stage, _ = self._products_of(record)
        run_id = self._newest(stage, record["at"]).run_id
        self._products.register(record["name"], stage, run_id, Path(record["model"]), record["alias"])

    def _ended(self, record: Record) -> None:
        status = "FAILED" if record["failed"] else "FINISHED"
        self._children.end_all(status, record["at"])
        self._client.set_terminated(self.parent_id, status, record["at"])

    # --

    def _newest(self, stage: str, at: int) -> Child:
        """The stage's child, whether it has ended or not."""
        return self._children.newest(stage) or self._children.at(stage, at)

    def _child(self, stage: str, at: int) -> Child:
        """The child that was at work at that time."""
        child = self._children.at(stage, at)
        self._with_params(stage, child)
        return child

    def _with_params(self, stage: str, child: Child) -> None:
        if stage in self._params:
            self._log_params(child.run_id, self._params[stage])
            del self._params[stage]

    def _has(self, record: Record) -> bool:
        """Whether the stage was found again and MLflow has it from the run that made it."""
        child = self._children.newest(record["stage"])
        return bool(record["reused"] and child is not None and child.ended is not None)

    def _place(self, stage: str) -> int:
        if stage in self._wanted.order:
            return self._wanted.order.index(stage)
        place = self._scored.setdefault(stage, len(self._wanted.order) + len(self._scored))
        self._children.tag(self.parent_id, {f"{SCORED}{stage}": str(place)})
        return place

    def _about(self, model: str | None, task: str) -> dict[str, object]:
        """Arguments of MLflow's Metric that say of what and on what a score is."""
        if not model:
            return {}
        dataset, digest = self._products.scored_on(task)
        return {"model_id": model, "dataset_name": dataset, "dataset_digest": digest}

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """MLflow's parameters cannot be changed: those that are recorded already are left as they are."""
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        mapped = {self._changes.key(name): self._changes.param(name, text) for name, text in params.items() if text != ""}
        fresh = [Param(key, value) for key, value in mapped.items() if key not in known]
        for first in range(0, len(fresh), _PARAMS):
            self._log_batch_of_params(run_id, fresh[first : first + _PARAMS])
        self._record_names(run_id)

    def _log_batch_of_params(self, run_id: str, params: Sequence[Any]) -> None:
        """One that MLflow refuses, of which another process has recorded another value, say, costs none of the others."""
        try:
            self._client.log_batch(run_id, params=params)
        except Exception as error:
            if not refused(error) and code_of(error) != "BAD_REQUEST":
                raise
            if len(params) == 1:
                self._changes.refused(params[0].key, f"is left out: {brief(error)}")
                return
            for half in (params[: len(params) // 2], params[len(params) // 2 :]):
                self._log_batch_of_params(run_id, half)

    def _record_names(self, run_id: str) -> None:
        """What keys were called before they were changed, in tags of the run."""
        names = list(self._changes.originals().items())[:_NAMES]
        self._children.tag(run_id, {key_of(f"{_NAME}{key}"): name for key, name in names})


def too_long(params: Mapping[str, str]) -> dict[str, str]:
    """Those that MLflow takes only in part."""
    return {name: text for name, text in params.items() if len(text) > PARAM_CHARACTERS}


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
