"""One recipe by two executors, and what the workflow asks of an engine when some of it exists."""

from __future__ import annotations

import json
import os
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

pytestmark = pytest.mark.slow
pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
PYFLYTE = Path(sys.executable).with_name("pyflyte")


NODES = """
import json, sys
from flytekit import FlyteContextManager
from flytekit.configuration import FastSerializationSettings, ImageConfig, SerializationSettings
from flytekit.core.context_manager import ExecutionState
from lehr.workflows.run import stages
settings = SerializationSettings(project='p', domain='d', version='v', image_config=ImageConfig.auto(img_name='example/lehr:1'))
with FlyteContextManager.with_context(FlyteContextManager.current_context().with_serialization_settings(settings)) as context:
    state = context.execution_state.with_params(mode=ExecutionState.Mode.TASK_EXECUTION)
    with FlyteContextManager.with_context(context.with_execution_state(state)):
        given = {'recipe': sys.argv[1], 'out': sys.argv[2], 'overrides': json.loads(sys.argv[3])}
        job = stages.compile_into_workflow(context, stages._task_function, **given)
print("NODES", json.dumps({node.id: [
    sorted(node.upstream_node_ids),
    node.task_node.reference_id.name,
    {str(r.name): r.value for r in node.task_node.overrides.resources.requests} if node.task_node.overrides.resources else {},
] for node in job.nodes}))
"""


def _compiled(out: Path, *overrides: str) -> dict[str, list[Any]]:
    """What the dynamic task asks the engine for, as it would in a pod: {node: [upstream, task, requests]}."""
    command = [sys.executable, "-c", NODES, str(helpers.RECIPE), str(out), json.dumps(list(overrides))]
    environment = {**os.environ, "PYTHONPATH": str(helpers.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=helpers.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[Any]] = json.loads(done.stdout.partition("NODES ")[2].splitlines()[0])
    return found


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
    assert whole["soup"][:2] == [["anneal-1", "anneal-2"], "lehr.tasks.stages.cpu"]
    assert whole["stage1"][0] == ["documents", "shards", "tokenizer"] and whole["stage1"][1] == "lehr.tasks.stages.ranked"
    assert "7" in whole["sft"][2].values() and set(whole["report"][0]) == set(nodes)
    assert {whole[name][1] for name in ("documents", "tokenizer", "shards", "soup")} == {"lehr.tasks.stages.cpu"}

    for folder in (out / "artifacts").glob("*"):
        if folder.name.startswith(("rlvr-", "scores-rlvr-", "export-")):
            shutil.rmtree(folder)
    rest = _compiled(out)
    assert set(rest) == {"rlvr", "scores-rlvr", "export", "report"}
    assert rest["rlvr"][0] == []  # its parent is a constant
