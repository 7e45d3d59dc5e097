"""A run's start loads nothing that only later stages need, and starts no process: counted in modules, not in seconds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

ENGLISH = "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and rain. "
LATER = {"torch", "flytekit", "mlflow", "sqlalchemy", "alembic", "transformers", "kubernetes", "boto3"}
# In a process of its own, whose modules are only those of a run. `argv`: recipe, documents, folder of the run.
RUN = """
import json, sys, time
born = []
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"}
sys.addaudithook(lambda event, args: born.append(f"{event} {args[:1]}") if event in STARTS else None)
from pathlib import Path
from lehr.config import load_recipe
from lehr.runtime.errors import UserError
from lehr.monitoring.console import ConsoleTracker
from lehr.monitoring.energy import PowerMeter
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.fan_out import FanOut
from lehr.monitoring.mlflow_tracker import MlflowTracker

def said(when):
    return {"when": when, "modules": sorted({name.partition(".")[0] for name in sys.modules}), "born": list(born)}

load_recipe(sys.argv[1])
folder = Path(sys.argv[3])
power = PowerMeter(7.0)
exporter = PrometheusTracker(About("run"), power)
mlflow = MlflowTracker(f"sqlite:///{folder}/mlflow.db", "lehr", "run", run_key="k", flush_seconds=0.01)
tracker = FanOut([ConsoleTracker(["documents"], stream=sys.stderr), exporter, mlflow])
exporter.start()

from lehr.config.data import Data, Mix
from lehr.config.sources import FilesSource
from lehr.data.preparation.corpus import Watch, prepare_corpus
from lehr.evals.contamination import evaluation_texts
source = FilesSource(kind="jsonl", path=sys.argv[2], license="CC0-1.0")
data = Data(sources={"web": source}, mixes={"m": Mix(weights={"web": 1.0})})
tracker.stage_started("documents", total_steps=0, params={})
failed = False
try:
    texts = evaluation_texts(["arithmetic", "prose"], 5)
    prepare_corpus(data, texts, lambda *_: [], folder / "out", folder, Watch(tracker.note))
    time.sleep(0.2)  # twenty turns of MLflow's thread
    worked = said("worked")
    tracker.stage_finished("documents", uri="", reused=False, seconds=1.0)
except UserError:
    worked, failed = said("failed"), True
tracker.close(failed=failed)
print(json.dumps([worked, said("closed")]))
"""


def run(repository: Path, folder: Path, rows: list[str]) -> list[dict[str, Any]]:
    """What was loaded and started before the first stage's end, and when all was over."""
    documents = folder / "web.jsonl"
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows), encoding="utf-8")
    command = [sys.executable, "-c", RUN, str(repository / "recipes/tiny/olmo2.yaml"), str(documents), str(folder)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed and is off" not in done.stderr and "MLflow at" not in done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_watches_a_run_costs_nothing_until_the_first_stage_has_ended(repository: Path, tmp_path: Path) -> None:
    rows = [f"Document number {i}. " + ENGLISH * 2 + f"It was the {i}th of them." for i in range(100)]
    worked, closed = run(repository, tmp_path, rows)
    assert worked["when"] == "worked" and worked["born"] == []
    assert not LATER & set(worked["modules"])
    assert "mlflow" in closed["modules"]
    assert not [born for born in closed["born"] if "python" in born]  # the pinned MLflow's schema needs no process
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        assert dict(db.execute("select name, status from runs")) == {"run": "FINISHED", "documents": "FINISHED"}


def test_a_run_whose_first_source_is_bad_costs_nothing_at_all(repository: Path, tmp_path: Path) -> None:
    failed, closed = run(repository, tmp_path, [])
    assert failed["when"] == "failed" and failed["born"] == closed["born"] == []
    assert not LATER & set(closed["modules"])
    assert not list(tmp_path.glob("*mlflow*")) and not list(tmp_path.glob(".*"))
