"""What Flyte will see: three small tasks, pods that are checked first, and the very results of `lehr run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from flytekit import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.artifacts.artifact import ArtifactRef
from lehr.config import load_recipe
from lehr.runtime.errors import InfraError, UserError
from lehr.tasks import registration
from lehr.tasks.owned import owned
from lehr.tasks.refs import RunRef
from lehr.tasks.stages import elastic

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "e2e" / "recipe.yaml"
PYFLYTE = Path(sys.executable).with_name("pyflyte")
LIMIT_BYTES = 200_000  # of all that is registered together: Flyte's own default for one upload is 2 MB


def _round_trip(value: object) -> object:
    context, kind = FlyteContextManager.current_context(), type(value)
    literal = TypeEngine.to_literal(context, value, kind, TypeEngine.to_literal_type(kind))
    return TypeEngine.to_python_value(context, literal, kind)


def test_runs_and_artifacts_survive_the_way_between_tasks() -> None:
    ref = RunRef(root="/data/run", recipe="r" * 64, key="k", command="lehr run --set seed=9007199254740993")
    assert _round_trip(ref) == ref
    artifact = ArtifactRef(uri="/data/run/artifacts/soup-1", digest="d" * 64, kind="checkpoint", stage="soup")
    assert _round_trip(artifact) == artifact


REGISTER = """
import json
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable
from collections import OrderedDict
from lehr.tasks.stages import TASKS, report
from lehr.workflows.run import piece, run, stages
settings = SerializationSettings(project='p', domain='d', version='v', image_config=ImageConfig.auto(img_name='example/lehr:1'))
sizes, found = {}, {}
for entity in (*TASKS.values(), report, piece, stages, run):
    made = get_serializable(OrderedDict(), settings, entity)
    sizes[entity.name] = len(made.to_flyte_idl().SerializeToString())
    template = made.template
    if getattr(template, 'k8s_pod', None):
        kind = [template.type, template.custom, template.metadata.retries.retries]
        found[template.id.name] = [*kind, template.k8s_pod.pod_spec, template.k8s_pod.metadata.labels]
print(json.dumps([sizes, found]))
"""


def _registered(**variables: str) -> tuple[dict[str, int], dict[str, list[Any]]]:
    """Bytes of everything that is registered, and [type, custom, retries, pod, labels] of each task."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", REGISTER], env=environment, capture_output=True, text=True, check=True)
    sizes, found = json.loads(done.stdout)
    return sizes, found


def test_what_is_registered_is_small_and_every_pod_is_checked_first_and_has_no_rights() -> None:
    sizes, tasks = _registered()
    assert sum(sizes.values()) < LIMIT_BYTES, sizes
    named = {f"lehr.tasks.stages.{name}" for name in ("cpu", "accelerator", "ranked", "report")}
    assert set(tasks) == {*named, "lehr.workflows.run.stages", "lehr.workflows.run.piece"}
    for name, (_, _, retries, spec, labels) in tasks.items():
        primary = spec["containers"][0]
        small = name not in ("lehr.tasks.stages.accelerator", "lehr.tasks.stages.ranked")
        assert retries == 3 and primary["name"] == "primary", name
        assert primary["args"][:4] == ["python", "-m", "lehr.infra.pod.supervisor", "pyflyte-execute"], name
        asked_for = {"cpu": "1", "memory": "2Gi"} if small else {"cpu": "2", "memory": "4Gi"}
        assert primary["resources"] == {"requests": asked_for, "limits": asked_for}, name
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True, name
        inits = spec.get("initContainers") or []
        assert [c["name"] for c in inits] == ([] if small else ["preflight", "preflight-gate"]), name
        assert labels == ({} if small else {"lehr.dev/preflight": "true"}), name
        assert all(c["image"] == "example/lehr:1" for c in (*inits, *spec["containers"])), name
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in (*inits, *spec["containers"])), name


def test_ranks_and_gpus_are_chosen_at_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pod of a PyTorchJob is made from the task's own: preflight, gate and all. Data, soup and report ask for no GPU."""
    said = {"LEHR_TASK_RESOURCES": "cpu=32,mem=256Gi,gpu=8", "LEHR_TASK_RANKS": "nodes=4,ranks=8"}
    _, tasks = _registered(**said)
    assert {name for name, (kind, *_) in tasks.items() if kind == "pytorch"} == {"lehr.tasks.stages.ranked"}
    for name in ("ranked", "accelerator"):
        spec = tasks[f"lehr.tasks.stages.{name}"][3]
        preflight, primary = spec["initContainers"][0], spec["containers"][0]
        assert primary["resources"]["limits"] == {"cpu": "32", "memory": "256Gi", "gpu": "8"}
        assert preflight["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert {"name": "LEHR_EXPECTED_GPUS", "value": "8"} in preflight["env"]
        assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "gpu" not in json.dumps(tasks["lehr.tasks.stages.cpu"][3]["containers"][0]["resources"])
    _, custom, retries, pod, _ = tasks["lehr.tasks.stages.ranked"]
    elastic_ = {"rdzvBackend": "c10d", "minReplicas": 4, "maxReplicas": 4, "nprocPerNode": 8}
    assert custom["elasticConfig"] == elastic_ and custom["workerReplicas"] == {"replicas": 4}
    assert custom["runPolicy"] == {"cleanPodPolicy": "CLEANPOD_POLICY_RUNNING"} and retries == 3
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert len(mounts) == len(set(mounts)) and "/dev/shm" in mounts
    for name, task in tasks.items():  # a task is declared anew in its pod
        env = task[3]["containers"][0]["env"]
        assert all({"name": key, "value": value} in env for key, value in said.items()), name
    for key, value in said.items():
        monkeypatch.setenv(key, value)
    registration.check(load_recipe(RECIPE, ["parallel.processes=32", *_WIDE]))
    with pytest.raises(UserError, match="registered for 32 ranks, the recipe asks for 2"):
        registration.check(load_recipe(RECIPE))
    for text in ("nodes=0,ranks=8", "node=3", "ranks="):
        with pytest.raises(UserError, match="is not a"):
            elastic(text)
    with pytest.raises(UserError, match="gpus=8"):
        registration.resources("gpus=8")


_WIDE = ["stage1.schedule.horizon_tokens=0", "stage1.batch_size=32", "stage1.tokens=65536"]
_WIDE += ["posttraining=[]", "ramp=null", "anneals=null"]


def test_a_recipe_says_what_its_stages_ask_for_and_not_more_gpus_than_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_TASK_RESOURCES", "cpu=32,mem=256Gi,gpu=8")
    compute = "compute={cpu: {cpu: '4', memory: 8Gi}, stages: {sft: {cpu: '16', memory: 64Gi, gpus: 8}}}"
    recipe = load_recipe(RECIPE, [compute])
    assert registration.wanted(recipe, "documents", "cpu").memory == "8Gi"
    assert registration.wanted(recipe, "sft", "ranked").cpu == "16"
    assert registration.wanted(recipe, "stage1", "ranked").gpus == 8
    with pytest.raises(UserError, match="registered for 8 GPUs"):
        registration.wanted(load_recipe(RECIPE, ["compute={ranked: {gpus: 4}}"]), "stage1", "ranked")


def test_without_a_cluster_the_pods_cost_nothing() -> None:
    code = "import sys, lehr.workflows.run; sys.exit(any(m.startswith('kubernetes') or m == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_file_that_pyflyte_names_by_its_folder_is_the_packages_own() -> None:
    """`pyflyte run workflows/run.py` and `pyflyte register workflows`: tasks are registered as a pod finds them."""
    code = (
        "import sys; from importlib import import_module; run = import_module('.'.join(sys.argv[1:])); "
        "print(run.__name__, run.stages.name, *sorted(m for m in sys.modules if m.split('.')[-1] == 'run' and 'flows' in m))"
    )
    command = [sys.executable, "-c", code, "workflows", "run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    name = "lehr.workflows.run"
    assert done.stdout.split() == [name, f"{name}.stages", name, name.removeprefix("lehr.")]


def test_only_the_machines_errors_are_retried() -> None:
    @owned(FlyteRecoverableException)
    def fails(error: Exception) -> None:
        raise error

    with pytest.raises(FlyteRecoverableException, match="power"):
        fails(InfraError("power"))
    with pytest.raises(UserError):
        fails(UserError("bad recipe"))


@pytest.mark.long
def test_a_graph_too_large_for_the_engine_is_cut_and_ends_the_same(tmp_path: Path) -> None:
    """Pieces of at most four paths, under flytekit's local engine: each is a dynamic node that begins with what came before."""
    short = ["posttraining=[]", "ramp=null", "evaluation.tasks=[{task: arithmetic, limit: 2}]"]
    sets = [part for override in short for part in ("--set", override)]
    command = [sys.executable, "-m", "lehr.cli.main", "run", str(RECIPE), "--out", str(tmp_path / "lehr"), "--no-mlflow", *sets]
    given = f"recipe={str(RECIPE)!r}, out={str(tmp_path / 'cut')!r}, overrides={short!r}"
    cut = f"import lehr.workflows.run as w; w.MOST_PATHS = 4; w.run({given})"
    for arguments in (command, [sys.executable, "-c", cut]):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = (json.loads((tmp_path / name / "lineage.json").read_text()) for name in ("lehr", "cut"))
    assert [(row["stage"], row["digest"]) for row in ours] == [(row["stage"], row["digest"]) for row in theirs]
