"""Datasets, logged models and registered ones, as MLflow's own client reads them back; after restarts each is there once."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring.mlflow_products import Products

sys.path.insert(0, str(Path(__file__).parent))
import tracked


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tracked.new_store(tmp_path_factory.mktemp("mlflow") / "mlflow.db")


@pytest.fixture
def root(empty_store: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    tracked.store(empty_store, folder)
    return folder


def inputs(run: Any) -> dict[str, str]:
    """What for, by dataset."""
    return {i.dataset.name: tag.value for i in run.inputs.dataset_inputs for tag in i.tags if tag.key == "mlflow.data.context"}


def test_data_artifacts_are_inputs_of_the_stages_that_read_them_and_of_the_run(root: Path) -> None:
    made = tracked.run_of(root)
    tracked.follow(tracked.tracker(root), made)
    runs = tracked.runs(root)
    assert inputs(runs["documents"]) == {} and inputs(runs["tokenizer"]) == {"documents": "data"} == inputs(runs["shards"])
    assert inputs(runs["stage1"]) == {"documents": "training", "shards": "training"}
    assert inputs(runs["scores-stage1"]) == {"documents": "evaluation"}
    assert inputs(runs["tiny"]) == {"documents": "data", "shards": "training"}
    by_name = {i.dataset.name: i.dataset for i in runs["stage1"].inputs.dataset_inputs}
    shards = by_name["shards"]
    assert shards.digest == made["shards"].manifest.digest[:36]  # as many as MLflow takes
    profile = json.loads(shards.profile)
    assert profile == {"tokens": {"novel": 30, "law": 12}, "tokens_in_all": 42, "bytes": 1}
    assert json.loads(by_name["documents"].profile) == {"read": 12, "kept": 9, "bytes": 1}

    import mlflow.data

    assert Path(mlflow.data.get_source(shards).load()) == made["shards"].folder


def test_the_source_of_a_dataset_in_an_object_store_is_its_address(root: Path) -> None:
    made = tracked.run_of(root)
    tracking = tracked.tracker(root)
    for stage in ("documents", "shards"):
        tracking.stage_finished(stage, uri=f"s3://bucket/a/artifacts/{made[stage].folder.name}", reused=False, seconds=1.0)
    tracking.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    found = {i.dataset.name: i.dataset for i in tracked.runs(root)["tiny"].inputs.dataset_inputs}
    assert found["documents"].source_type == "s3" and json.loads(found["documents"].source)["uri"].startswith("s3://bucket/a/")


def test_checkpoints_and_the_export_are_logged_models_with_lineage_and_scores(root: Path) -> None:
    made = tracked.run_of(root)
    tracking = tracked.tracker(root)
    tracking.stage_started("stage1", total_steps=3, params={})
    for step in (1, 2, 3):
        tracking.progress("stage1", step, 3, {"loss": 1.0})
    tracked.follow(tracking, made)
    runs, models = tracked.runs(root), tracked.models(root)
    assert set(models) == {"stage1", "anneal-1", "export"}
    for stage, model in models.items():
        manifest = made[stage].manifest
        assert (str(model.status), model.model_type, model.source_run_id) == ("READY", manifest.kind, runs[stage].info.run_id)
        assert model.tags["artifact.uri"] == made[stage].uri and model.tags["artifact.digest"] == manifest.digest
        assert model.tags["lehr.stage"] == stage and model.params == {"optim.lr": "0.003"}
    outputs = {name: [(o.model_id, o.step) for o in run.outputs.model_outputs] for name, run in runs.items() if run.outputs}
    assert {name: found for name, found in outputs.items() if found} == {
        "stage1": [(models["stage1"].model_id, 3)],
        "anneal-1": [(models["anneal-1"].model_id, 0)],
        "export": [(models["export"].model_id, 0)],
        "tiny": [(models["export"].model_id, 0)],
    }
    read = {name: [i.model_id for i in run.inputs.model_inputs] for name, run in runs.items()}
    assert read["anneal-1"] == read["scores-stage1"] == [models["stage1"].model_id]
    assert read["export"] == [models["anneal-1"].model_id]
    of = {metric.key: metric for metric in models["stage1"].metrics}
    prose, sums = of["score/prose/dev/bits_per_byte"], of["score/arithmetic/dev/exact_match"]
    assert (prose.value, prose.dataset_name) == (2.0, "documents") and sums.value == 0.5 and not sums.dataset_name
    assert prose.dataset_digest == made["documents"].manifest.digest[:36]


def test_a_restart_and_another_recipe_make_no_second_of_anything(root: Path) -> None:
    made = tracked.run_of(root)
    first = tracked.tracker(root)
    for stage in ("documents", "shards", "stage1"):  # then it is killed
        first.stage_finished(stage, uri=made[stage].uri, reused=False, seconds=1.0)
    first.close(failed=True, timeout_seconds=tracked.PATIENCE_SECONDS)
    tracked.follow(tracked.tracker(root), made, reused=True, registered="chat")
    before = {name: (inputs(run), run.inputs.model_inputs) for name, run in tracked.runs(root).items()}
    tracked.follow(tracked.tracker(root), made, reused=True, registered="chat")
    assert {name: (inputs(run), run.inputs.model_inputs) for name, run in tracked.runs(root).items()} == before
    assert set(tracked.models(root)) == {"stage1", "anneal-1", "export"}
    tracked.follow(tracked.tracker(root, run_key="another"), made, reused=True, registered="chat")
    assert len(tracked.client(root).search_model_versions("name = 'chat'")) == 1
    assert set(tracked.models(root)) == {"stage1", "anneal-1", "export"}  # `models` sees to it that each is there once
    [model] = [model for model in tracked.models(root).values() if model.name == "stage1"]
    experiment = tracked.client(root).get_experiment_by_name("lehr").experiment_id
    found = tracked.client(root).search_runs([experiment], "attributes.run_name = 'stage1'")
    assert [[o.model_id for o in run.outputs.model_outputs] for run in found] == [[model.model_id]] * 2


def test_what_was_half_told_when_the_store_went_away_is_told_to_the_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tracked.run_of(root)
    whole, failures = Products._output, iter([1, 1])

    def flaky(self: Products, run_id: str, model_id: str, step: int) -> None:
        if next(failures, None):
            raise ConnectionError("away")
        whole(self, run_id, model_id, step)

    monkeypatch.setattr(Products, "_output", flaky)
    tracking = tracked.tracker(root)
    tracking.stage_finished("stage1", uri=made["stage1"].uri, reused=False, seconds=1.0)
    while tracking.waiting:
        time.sleep(0.02)
    tracking.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    run, [model] = tracked.runs(root)["stage1"], tracked.models(root).values()
    assert run.info.status == "FINISHED" and len(inputs(run)) == 2
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id] and str(model.status) == "READY"


def test_the_published_model_becomes_one_version_of_the_registered_model(root: Path, tmp_path: Path) -> None:
    made = tracked.run_of(root)
    tracked.follow(tracked.tracker(root), made, registered="chat")
    tracked.follow(tracked.tracker(root), made, reused=True, registered="chat")
    mlflow = tracked.client(root)
    [version] = mlflow.search_model_versions("name = 'chat'")
    export = tracked.models(root)["export"]
    assert (str(version.version), version.status) == ("1", "READY")
    assert version.run_id == tracked.runs(root)["export"].info.run_id == export.source_run_id
    assert version.tags["artifact.digest"] == made["export"].manifest.digest
    assert json.loads(export.tags["mlflow.modelVersions"]) == [{"name": "chat", "version": "1"}]
    import mlflow.artifacts

    files = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.source, dst_path=str(tmp_path / "got")))
    assert {path.name for path in files.iterdir()} == {"config.json", "README.md"}

    other = tracked.artifact(root, "export-2", "export", [made["anneal-1"]], text="another")
    again = tracked.tracker(root)
    again.stage_finished("export", uri=other.uri, reused=False, seconds=1.0)
    again.register("chat", "export", other.uri, root / "model")
    again.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    assert sorted(int(v.version) for v in tracked.client(root).search_model_versions("name = 'chat'")) == [1, 2]


def test_without_being_asked_nothing_is_registered(root: Path) -> None:
    tracked.follow(tracked.tracker(root), tracked.run_of(root))
    assert tracked.client(root).search_registered_models() == []


class Refused(Exception):
    """MLflow's answer."""

    def __init__(self, code: str) -> None:
        super().__init__("no such thing here")
        self.error_code = code


@pytest.mark.parametrize(
    "error",
    [
        Refused("ENDPOINT_NOT_FOUND"),
        Refused("PERMISSION_DENIED"),
        KeyError("no such thing here"),
        OSError(errno.ENOSPC, "no such thing here", "file"),
        shutil.Error("no such thing here"),
    ],
    ids=repr,
)
def test_where_there_are_no_logged_models_the_runs_are_recorded_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """An older server, few rights, a full disk, a mistake of ours."""

    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Products, "_model", refuse)
    if isinstance(error, Refused):
        monkeypatch.setattr(Products, "_find", refuse)
    tracked.follow(tracked.tracker(root), tracked.run_of(root), registered="chat")
    runs = tracked.runs(root)
    assert {run.info.status for run in runs.values()} == {"FINISHED"} and len(runs) == 8
    assert runs["stage1"].data.metrics["score/prose/dev/bits_per_byte"] == 2.0
    assert len([r for r in caplog.records if r.name == "lehr.monitoring"]) == 1 and "no such thing here" in caplog.text


def test_a_stage_whose_artifact_lies_elsewhere_is_recorded_without_it(root: Path) -> None:
    tracking = tracked.tracker(root)
    tracking.stage_finished("stage1", uri="s3://bucket/runs/a/artifacts/stage1-0123456789ab", reused=False, seconds=1.0)
    tracking.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    assert tracked.runs(root)["stage1"].info.status == "FINISHED" and tracked.models(root) == {}


def test_measurements_on_the_way_are_a_curve_without_gaps_or_repeats(root: Path) -> None:
    """Measured after steps 10 and 20, killed, resumed at 15, measured after 20 and 30."""
    for attempt, steps in ((1, (10, 20)), (2, (20, 30))):
        tracking = tracked.tracker(root)
        tracking.stage_started("stage1", total_steps=30, params={})
        for step in steps:
            tracking.progress("stage1", step, 30, {"loss": 1.0})
            tracking.evaluated("stage1", step, {"dev_bits_per_byte": float(step), "dev_bits_per_byte@novel": 1.0})
        tracking.close(failed=attempt == 1, timeout_seconds=tracked.PATIENCE_SECONDS)
    run = tracked.runs(root)["stage1"]
    for key in ("dev_bits_per_byte", "dev_bits_per_byte:novel", "loss"):
        assert sorted(m.step for m in tracked.client(root).get_metric_history(run.info.run_id, key)) == [10, 20, 30]


def test_system_metrics_are_one_curve_of_the_whole_run(root: Path) -> None:
    for attempt in (1, 2):
        tracking = tracked.tracker(root, sample_seconds=0.05)
        tracking.stage_finished("documents", uri="", reused=attempt == 2, seconds=1.0)
        while len(_samples(root)) < 2 * attempt:
            time.sleep(0.05)
        tracking.close(timeout_seconds=tracked.PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in tracking._threads)  # it stops when the run does
    parent = tracked.runs(root)["tiny"]
    assert all(parent.data.metrics[f"system/{name}"] > 0 for name in ("system_memory_usage_megabytes", "disk_usage_percentage"))
    assert "system/cpu_utilization_percentage" not in tracked.runs(root)["documents"].data.metrics


def _samples(root: Path) -> list[int]:
    mlflow = tracked.client(root)
    experiment = mlflow.get_experiment_by_name("lehr")
    found = mlflow.search_runs([experiment.experiment_id], "tags.`lehr.role` = 'recipe'") if experiment else []
    history = [mlflow.get_metric_history(run.info.run_id, "system/system_memory_usage_megabytes") for run in found]
    return sorted(m.step for points in history for m in points)


def test_a_long_run_is_sampled_ever_less_often(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose charts MLflow could not draw otherwise: a month of it in a few thousand points."""
    tracking = tracked.tracker(root, sample_seconds=10.0, flush_seconds=1e6)
    clock = [tracking._made_at]
    monkeypatch.setattr("lehr.monitoring.mlflow_tracker.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(tracking._system, "sample", dict)
    while clock[0] < tracking._made_at + 30 * 86_400:
        clock[0] = max(clock[0] + 3.0, tracking._sample_at)
        tracking._sample(last=False)
    assert 5000 < len(tracking._inbox) < 8000
    tracking._inbox.clear()
    monkeypatch.undo()
    tracking.close(failed=True)
