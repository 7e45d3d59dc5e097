"""Documents of other forms than JSON lines, in a run as a user starts it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import helpers
import pyarrow
import pytest
import yaml
from pyarrow import parquet

from lehr.evals.corpus import rows_of

pytestmark = pytest.mark.slow


def _recipe(folder: Path, source: dict[str, object]) -> Path:
    """The shortest run with documents: one step of pretraining, no scores."""
    child = {
        "inherits": os.path.relpath(helpers.RECIPE, folder),
        "data": {"sources": {"bible": {"license": "public domain", **source}}},
        "stage1": {"tokens": 1024},
        "ramp": None,
        "anneals": None,
        "posttraining": [],
        "evaluation": {"in_loop_steps": 0, "baselines": None, "tasks": [{"task": "prose", "limit": 2}]},
        "parallel": {"processes": 1},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(child))
    return folder / "mine.yaml"


@pytest.mark.long
def test_a_run_begins_with_a_data_set_in_parquet(tmp_path: Path) -> None:
    bible = helpers.ROOT / "recipes/data/bible.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(bible.read_bytes()).splitlines()[:200]]
    (tmp_path / "set/data").mkdir(parents=True)
    for name, part in {"train-00000-of-00002": rows[:100], "train-00001-of-00002": rows[100:], "test": rows[:5]}.items():
        table = pyarrow.Table.from_pylist([{"id": row["id"], "body": row["text"], "url": "http://a/"} for row in part])
        parquet.write_table(table, tmp_path / f"set/data/{name}.parquet")
    (tmp_path / "set/data/train-00002-of-00002.parquet").write_bytes(b"PAR1 cut off")
    source: dict[str, object] = {"kind": "files", "path": "set", "fields": {"text": "body"}}
    recipe = _recipe(tmp_path, source)
    helpers.refused(helpers.run(tmp_path / "run", recipe=recipe), "train-00002-of-00002.parquet", "damaged Parquet file")
    recipe = _recipe(tmp_path, {**source, "damaged": "skip"})
    done = helpers.run(tmp_path / "run", recipe=recipe)
    assert done.returncode == 0, done.stderr
    made = next((tmp_path / "run/artifacts").glob("documents-*"))
    funnel = json.loads((made / "funnel.json").read_text())["bible"]
    assert funnel["passed_over"]["damaged"] == {"damaged file": 1}
    said = helpers.lehr("dropped", str(tmp_path / "run")).stderr
    assert "1 bible: could not be read: damaged file, first" in said and "train-00002-of-00002.parquet" in said
    assert "Passed over" in (tmp_path / "run/report.html").read_text()
    kept = {row["id"].partition("#")[0] for row in rows_of(made / "documents/bible.jsonl.gz")}
    assert kept and kept <= {row["id"] for row in rows}
