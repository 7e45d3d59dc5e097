"""What the dynamic task of a run asks the engine for, as it does in a pod: it is compiled here and nothing of it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "e2e" / "recipe.yaml"
IMAGE = "example/lehr:1"
COMPILE = """
import json, sys
from flytekit import FlyteContextManager
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.context_manager import ExecutionState
from google.protobuf.json_format import MessageToDict
from lehr.workflows.run import stages
images = ImageConfig.auto(img_name=sys.argv[4])
settings = SerializationSettings(project='p', domain='d', version='v', image_config=images)
with FlyteContextManager.with_context(FlyteContextManager.current_context().with_serialization_settings(settings)) as context:
    state = context.execution_state.with_params(mode=ExecutionState.Mode.TASK_EXECUTION)
    with FlyteContextManager.with_context(context.with_execution_state(state)) as context:
        given = {'recipe': sys.argv[1], 'out': sys.argv[2], 'overrides': json.loads(sys.argv[3])}
        job = stages.compile_into_workflow(context, stages._task_function, **given)
print("JOB", json.dumps(MessageToDict(job.to_flyte_idl())))
"""


def job(out: Path, *overrides: str, recipe: Path = RECIPE) -> dict[str, Any]:
    """The DynamicJobSpec as JSON data."""
    command = [sys.executable, "-c", COMPILE, str(recipe), str(out), json.dumps(list(overrides)), IMAGE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.partition("JOB ")[2].splitlines()[0])
    return found


def graph_in_a_pod(folder: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    """The task templates by name."""
    return {task["id"]["name"]: task for task in job(folder / "run", *overrides)["tasks"]}
