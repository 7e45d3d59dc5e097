"""`lehr eval` tells the MLflow that MLFLOW_TRACKING_URI names, once, and loses nothing where it does not answer."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.evals import packaged, rendered
from lehr.evals import run as evaluation
from lehr.evals.named_suites import SUITES, summary
from tests.evals.test_packaged import shipped

TASKS = ("--tasks", "arithmetic,arithmetic_cf", "--limit", "3", "--processes", "1", "--out")
SECRET = "not-to-be-seen"


class Store:
    """An MLflow file, read without MLflow."""

    def __init__(self, path: Path) -> None:
        self.path, self.uri = path, f"sqlite:///{path}"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.path) as db:
            return db.execute(query).fetchall()

    def scores(self, run: str) -> list[tuple[Any, ...]]:
        """Every point that was ever recorded, doubled ones too."""
        of = f"name = '{run}' AND key LIKE 'score/%' ORDER BY key"
        return self.rows(f"SELECT key, value FROM metrics JOIN runs USING (run_uuid) WHERE {of}")

    def tags(self, run: str) -> dict[str, str]:
        return dict(self.rows(f"SELECT key, value FROM tags JOIN runs USING (run_uuid) WHERE name = '{run}'"))


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy: whoever scores a run's model is written down there."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store(tmp_path / "server" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.chdir(tmp_path)  # where MLflow's own file store puts copies
    return made


def _named(records: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """As a run's scores are called in MLflow."""
    found = []
    for r in records:
        name = f"score/{r['task']}/{r['split']}/{r['metric']}"
        found += [(name, r["value"]), *([(f"{name}_stderr", r["stderr"])] if r["stderr"] is not None else [])]
    return sorted(found)


class _Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_killed_evaluation_is_there_once_with_its_models_digest(
    model: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plain, asked = tmp_path / "out", evaluation.score, list[str]()

    def scored(*arguments: Any, **named: Any) -> Any:
        asked.append(arguments[2])
        if len(asked) == 2:
            raise _Killed
        return plain(*arguments, **named)

    monkeypatch.setattr(evaluation, "score", scored)
    assert main(["eval", str(model), *TASKS, str(out)]) != 0 and not store.path.exists()
    for _ in range(2):  # it goes on; and it is found again
        assert main(["eval", str(model), *TASKS, str(out)]) == 0
    assert asked == ["arithmetic", "arithmetic_cf", "arithmetic_cf"]
    scored_model = next(model.glob("artifacts/stage1-*"))
    records = json.loads((out / "scores.json").read_text())
    assert store.scores("eval stage1") == store.scores("stage1") == _named(records) and len(records) > 2
    assert sorted(store.rows("SELECT name, status FROM runs")) == [
        (name, "FINISHED") for name in ("eval stage1", "scores-stage1", "stage1")
    ]
    tags = store.tags("eval stage1")
    assert tags["lehr.model_digest"] == Artifact.open(scored_model).manifest.digest and "lehr.suite" not in tags
    assert store.rows("SELECT name FROM experiments WHERE name = 'olmo2'")  # as runs are: by the family
    assert f"MLflow: {store.uri}, experiment olmo2, run eval stage1" in capsys.readouterr().err
    assert main(["eval", str(model), *TASKS, str(tmp_path / "untold"), "--no-mlflow"]) == 0
    assert len(store.rows("SELECT 1 FROM runs")) == 3


def test_a_suite_of_a_hugging_face_folder_has_its_mean(
    model: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "olmo_eval"
    for judged in SUITES["olmo1"].benchmarks.values():
        for task, metric in judged:
            shipped(root, task, "validation", metric, [([("Q: a", " b"), ("Q: a", " cc")], 0)] * 2, alone="Answer:")
    monkeypatch.setenv(packaged.FOLDER, str(root))
    packaged._options.cache_clear()
    rendered._config.cache_clear()
    out = tmp_path / "out"
    assert main(["eval", str(model / "model"), "--suite", "olmo1", "--processes", "1", "--out", str(out)]) == 0
    mean = summary(SUITES["olmo1"], json.loads((out / "scores.json").read_text())).mean
    found = dict(store.scores("eval model olmo1"))
    assert found["score/olmo1/held_out/mean"] == pytest.approx(mean) and "score/boolq:rc_0shot/dev/acc" in found
    tags = store.tags("eval model olmo1")
    imported = Artifact.open(next(out.glob("artifacts/imported-*"))).manifest
    assert (tags["lehr.suite"], tags["lehr.model_digest"]) == ("olmo1", imported.digest)


def test_a_server_that_is_down_costs_a_line_and_gets_the_scores_later(
    model: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{SECRET}@127.0.0.1:9")
    out = tmp_path / "out"
    assert main(["eval", str(model), *TASKS, str(out)]) == 0
    [line] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and r.name.startswith("lehr")]
    assert "http://***@127.0.0.1:9" in line and f"`lehr mlflow {out} --send`" in line and "\n" not in line
    said = capfd.readouterr()
    waiting = [path.read_text(encoding="utf-8") for path in (out / "mlflow-pending").iterdir()]
    assert SECRET not in said.out + said.err + line + "".join(waiting) and len(waiting) == 1
    assert "MLflow: " not in said.err and (out / "scores.json").is_file()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert main(["mlflow", str(out), "--send"]) == 0
    records = json.loads((out / "scores.json").read_text())
    assert store.scores("eval stage1") == _named(records) and not (out / "mlflow-pending").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    assert main(["eval", str(model), *TASKS, str(out)]) == 0
