"""Models as MLflow's users look for them: by alias, by what they are made of, by their scores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

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


def test_the_released_model_has_an_alias_that_nobody_takes_back(root: Path) -> None:
    """A version gets it once: not again by a restart of the same run, when another version has it by then."""
    made = tracked.run_of(root)
    tracked.follow(tracked.tracker(root), made, registered="chat", alias="released")
    mlflow = tracked.client(root)
    assert mlflow.get_model_version_by_alias("chat", "released").version == 1
    newer = tracked.artifact(root, "export-2", "export", [made["anneal-1"]], text="another")
    again = tracked.tracker(root, run_key="newer")
    again.stage_finished("export", uri=newer.uri, reused=False, seconds=1.0)
    again.register("chat", "export", newer.uri, root / "model", "released")
    again.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    assert mlflow.get_model_version_by_alias("chat", "released").version == 2
    tracked.follow(tracked.tracker(root), made, reused=True, registered="chat", alias="released")
    assert mlflow.get_model_version_by_alias("chat", "released").version == 2
    assert len(mlflow.search_model_versions("name = 'chat'")) == 2
    models = mlflow.search_logged_models([mlflow.get_experiment_by_name("lehr").experiment_id], "name = 'export'")
    assert sorted(model.tags["mlflow.modelVersions"] for model in models) == [
        '[{"name": "chat", "version": "1"}]',
        '[{"name": "chat", "version": "2"}]',
    ]


def test_models_are_found_by_what_they_are_made_of_and_by_their_scores(root: Path) -> None:
    made = tracked.run_of(root)
    soup = tracked.artifact(
        root, "soup", "checkpoint", [made["stage1"], made["anneal-1"]], {"ingredients": ["stage1", "anneal-1"]}, "z"
    )
    tracking = tracked.tracker(root)
    tracking.progress("stage1", 3, 3, {"loss": 1.0})
    tracked.follow(tracking, {**made, "soup": soup})
    mlflow = tracked.client(root)
    experiment = [mlflow.get_experiment_by_name("lehr").experiment_id]

    def names(query: str) -> list[str]:
        return sorted(model.name for model in mlflow.search_logged_models(experiment, query))

    assert names(f"tags.`lehr.parent.stage1` = '{made['stage1'].manifest.digest}'") == ["anneal-1", "soup"]
    assert names("tags.`lehr.ingredients` = 'stage1 anneal-1'") == ["soup"]
    assert names("tags.`lehr.step` = '3' and tags.`lehr.tokens` = '32'") == ["stage1"]
    assert names("metrics.`score/prose/dev/bits_per_byte` < 3") == ["stage1"]
    runs = tracked.runs(root)
    assert runs["soup"].data.tags["lehr.stage_kind"] == "soup" and len(runs["soup"].inputs.model_inputs) == 2
