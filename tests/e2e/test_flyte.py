"""One recipe by two executors, and what the workflow asks of an engine when some of it exists."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import helpers
import pytest
from helpers import Finished

from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from tests.workflows.dynamic import job

pytestmark = pytest.mark.slow
pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
PYFLYTE = Path(sys.executable).with_name("pyflyte")


def _compiled(out: Path, *overrides: str) -> dict[str, list[Any]]:
    """What the dynamic task asks the engine for, as it would in a pod: {node: [upstream, task, limits]}."""
    made = job(out, *overrides, recipe=helpers.RECIPE)
    limits = {task["id"]["name"]: task["k8sPod"]["podSpec"]["containers"][0]["resources"]["limits"] for task in made["tasks"]}
    found = {}
    for node in made["nodes"]:
        name = node["taskNode"]["referenceId"]["name"]
        found[node["id"]] = [sorted(node.get("upstreamNodeIds", [])), name, limits[name]]
    return found


@pytest.mark.long  # tests/cluster/test_engine.py holds the digests on the real engine
def test_both_executors_end_with_the_same_digests_and_what_exists_becomes_no_pod(finished: Finished, tmp_path: Path) -> None:
    """`lehr run`, then `pyflyte run`: the same artifacts and scores. Then, what the dynamic task makes of a graph in a pod."""
    out = tmp_path / "flyte"
    command = [str(PYFLYTE), "run", "workflows/run.py", "run", "--recipe", str(helpers.RECIPE), "--out", str(out)]
    done = subprocess.run(
        command, cwd=helpers.ROOT, env=helpers.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lineages = [json.loads((folder / "lineage.json").read_text()) for folder in (finished.out, out)]
    ours, theirs = ({row["stage"]: (row["digest"], row["fingerprint"]) for row in rows} for rows in lineages)
    assert ours == theirs and len(ours) == len(graph(load_recipe(helpers.RECIPE)))
    assert (finished.out / "scores.json").read_bytes() == (out / "scores.json").read_bytes()

    whole = _compiled(tmp_path / "new", "compute={stages: {sft: {cpu: '7', memory: 9Gi}}}")
    nodes = {node.name: node for node in graph(load_recipe(helpers.RECIPE))}
    assert set(whole) == {*nodes, "report"}
    assert whole["soup"][:2] == [["anneal-1", "anneal-2"], "lehr.tasks.stages.cpu.soup"]
    assert (
        whole["stage1"][0] == ["documents", "shards", "tokenizer"] and whole["stage1"][1] == "lehr.tasks.stages.ranked.stage1"
    )
    assert whole["sft"][2] == {"cpu": "7", "memory": "9Gi"} and set(whole["report"][0]) == set(nodes)
    data = ("documents", "tokenizer", "shards", "soup")
    assert {whole[name][1] for name in data} == {f"lehr.tasks.stages.cpu.{name}" for name in data}

    for folder in (out / "artifacts").glob("*"):
        if folder.name.startswith(("rlvr-", "scores-rlvr-", "export-")):
            shutil.rmtree(folder)
    rest = _compiled(out)
    assert set(rest) == {"rlvr", "scores-rlvr", "export", "report"}
    assert rest["rlvr"][0] == []  # its parent is a constant
