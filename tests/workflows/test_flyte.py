"""What Flyte will see: three small tasks, pods that are checked first, and the very results of `lehr run`."""

from __future__ import annotations

import itertools
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
from lehr.infra.pod.pod_request import PodRequest
from lehr.pipeline.graph import graph
from lehr.runtime.errors import InfraError, UserError
from lehr.tasks.owned import owned
from lehr.tasks.refs import RunRef
from lehr.tasks.requests import counts, requests
from lehr.tasks.stages import settings
from tests.workflows.dynamic import graph_in_a_pod, job

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
from lehr.workflows.run import piece, run, stages, stages_of, submitted
settings = SerializationSettings(project='p', domain='d', version='v', image_config=ImageConfig.auto(img_name='example/lehr:1'))
sizes, found = {}, {}
for entity in (*TASKS.values(), report, piece, stages, stages_of, run, submitted):
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
    graphs = {f"lehr.workflows.run.{name}" for name in ("stages", "stages_of", "piece")}
    assert set(tasks) == named | graphs
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


_WIDE = ["stage1.schedule.horizon_tokens=0", "stage1.batch_size=32", "stage1.tokens=65536", "parallel.processes=32"]
_WIDE += ["evaluation.processes=1", "posttraining=[]", "ramp=null", "anneals=null"]


PLANS = """
import json
from collections import OrderedDict
from flytekit import LaunchPlan
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.context_manager import FlyteEntities
from flytekit.tools.translator import get_serializable
from google.protobuf.json_format import MessageToDict
import lehr.workflows.plans
settings = SerializationSettings(project='p', domain='d', version='v', image_config=ImageConfig.auto(img_name='example/lehr:1'))
plans = [entity for entity in FlyteEntities.entities if isinstance(entity, LaunchPlan)]
made = [MessageToDict(get_serializable(OrderedDict(), settings, plan).to_flyte_idl()) for plan in plans]
print(json.dumps({plan['id']['name']: plan['spec'] for plan in made}))
"""


@pytest.mark.long
def test_shipped_recipes_have_launch_plans_and_one_is_for_each_night() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEHR_NIGHTLY_OUT": "s3://b/nights"}
    done = subprocess.run([sys.executable, "-c", PLANS], env=environment, capture_output=True, text=True, check=True)
    plans = json.loads(done.stdout)
    tiny = {f"lehr.tiny.{path.stem}" for path in (ROOT / "recipes" / "tiny").glob("*.yaml")}
    assert set(plans) == {*tiny, "lehr.nightly"}
    fixed = {name: spec["fixedInputs"]["literals"] for name, spec in plans.items()}
    assert fixed["lehr.tiny.olmo2"]["recipe"]["scalar"]["primitive"]["stringValue"] == "tiny/olmo2"
    assert fixed["lehr.nightly"]["out"]["scalar"]["primitive"]["stringValue"] == "s3://b/nights"
    schedule = plans["lehr.nightly"]["entityMetadata"]["schedule"]
    assert schedule["cronSchedule"]["schedule"] == "0 2 * * *" and schedule["kickoffTimeInputArg"] == "kickoff"


@pytest.mark.long
def test_every_stage_of_a_graph_has_the_pods_that_its_recipe_asks_for(tmp_path: Path) -> None:
    """As the dynamic task hands them to the engine: a task for each stage, whose pods find its function all the same. The pods
    of a PyTorchJob are made from the task's own: preflight, gate and all."""
    large = "accelerator: NVIDIA-H100-80GB-HBM3, shared_memory: 64Gi, disk: 200Gi, pool: a, priority: urgent, image: lehr:2"
    ranked = f"ranked={{nodes: 4, gpus: 8, cpu: '96', memory: 900Gi, {large}, rdma: {{rdma/ib: 8}}, grace_seconds: 300}}"
    stages = "stages={evaluate: {nodes: 1, gpus: 1, interruptible: true}, scores-stage1: {cpu: '7'}, report: {memory: 9Gi}}"
    tasks = graph_in_a_pod(tmp_path, *_WIDE, f"compute.{ranked}", f"compute.{stages}")
    stage1, scores, documents = (tasks[f"lehr.tasks.stages.{name}"] for name in
                                 ("ranked.stage1", "ranked.scores-stage1", "cpu.documents"))  # fmt: skip
    assert stage1["type"] == "pytorch" and stage1["metadata"]["retries"]["retries"] == 16
    elastic_ = {"rdzvBackend": "c10d", "minReplicas": 4, "maxReplicas": 4, "nprocPerNode": 8}
    assert stage1["custom"]["elasticConfig"] == elastic_ and stage1["custom"]["workerReplicas"] == {"replicas": 4}
    assert stage1["custom"]["runPolicy"] == {"cleanPodPolicy": "CLEANPOD_POLICY_RUNNING"}
    pod, said = stage1["k8sPod"]["podSpec"], stage1["k8sPod"]["metadata"]["labels"]
    preflight, primary = pod["initContainers"][0], pod["containers"][0]
    limits = {"cpu": "96", "memory": "900Gi", "gpu": "8", "ephemeral-storage": "200Gi", "rdma/ib": "8"}
    assert primary["resources"] == {"limits": limits, "requests": limits}
    assert preflight["resources"]["limits"]["nvidia.com/gpu"] == "8" and "rdma/ib" not in preflight["resources"]["limits"]
    assert {"name": "LEHR_EXPECTED_GPUS", "value": "8"} in preflight["env"]
    assert {primary["image"], preflight["image"]} == {"lehr:2"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["nodeSelector"] == {"lehr.dev/pool": "a", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod["priorityClassName"] == "urgent" and pod["terminationGracePeriodSeconds"] == 300
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    mounts = [mount["mountPath"] for mount in primary["volumeMounts"]]
    assert len(mounts) == len(set(mounts)) and "/dev/shm" in mounts
    apart = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    selected = apart["labelSelector"]["matchLabels"]
    assert apart["topologyKey"] == "kubernetes.io/hostname" and selected.items() <= said.items()
    assert said["lehr.dev/stage"] == "stage1" and said["lehr.dev/preflight"] == "true" and said["lehr.dev/recipe"] == "e2e"
    assert {"name": "LEHR_TASK_RANKS", "value": "nodes=4,ranks=8"} in primary["env"]
    assert primary["args"][-4:] == ["task-module", "lehr.tasks.stages", "task-name", "ranked"]

    assert scores["type"] == "python-task" and scores["metadata"]["retries"]["retries"] == 3
    assert scores["metadata"]["interruptible"] is True and "interruptible" not in stage1["metadata"]
    alone = scores["k8sPod"]["podSpec"]
    assert (
        alone["containers"][0]["resources"]["limits"] | {"cpu": "7", "gpu": "1"}
        == alone["containers"][0]["resources"]["limits"]
    )
    assert "affinity" not in alone and {t["key"] for t in alone["tolerations"]} >= {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    }
    small = documents["k8sPod"]["podSpec"]
    assert small["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert not {"initContainers", "tolerations", "nodeSelector", "priorityClassName"} & set(small)
    last = tasks["lehr.tasks.stages.report.report"]
    assert last["k8sPod"]["podSpec"]["containers"][0]["resources"]["limits"]["memory"] == "9Gi"
    assert last["metadata"]["generatesDeck"] is True


@pytest.mark.long
def test_files_of_a_corpus_are_a_map_task_a_pass_with_the_pods_of_their_stage(tmp_path: Path) -> None:
    found = job(tmp_path / "run", "data.pods=5", "compute.stages={documents: {cpu: '7'}}")
    nodes, names = {node["id"]: node for node in found["nodes"]}, [task["id"]["name"] for task in found["tasks"]]
    assert len(names) == len(set(names)), "the engine knows a task by its name"
    order = [name for step in ("filter", "overlap", "write") for name in (f"documents-before-{step}", f"documents-{step}")]
    for earlier, later in itertools.pairwise([*order, "documents"]):
        assert earlier in nodes[later]["upstreamNodeIds"]
    for step in ("filter", "overlap", "write"):
        inputs = {given["var"]: given["binding"] for given in nodes[f"documents-{step}"]["inputs"]}
        assert (
            inputs["step"]["scalar"]["primitive"]["stringValue"] == step and len(inputs["part"]["collection"]["bindings"]) == 5
        )
    for task in found["tasks"]:
        if ".part_tasks." in task["id"]["name"]:
            assert task["metadata"]["retries"]["retries"] == 3
            assert task["k8sPod"]["podSpec"]["containers"][0]["resources"]["limits"] == {"cpu": "7", "memory": "2Gi"}


def test_a_pod_of_several_nodes_declares_the_same_launcher() -> None:
    """It finds the task by the function's name, and no recipe yet."""
    _, tasks = _registered(LEHR_TASK_RANKS="nodes=4,ranks=8")
    assert {name for name, (kind, *_) in tasks.items() if kind == "pytorch"} == {"lehr.tasks.stages.ranked"}
    _, custom, *_ = tasks["lehr.tasks.stages.ranked"]
    assert custom["elasticConfig"]["nprocPerNode"] == 8 and custom["workerReplicas"] == {"replicas": 4}
    for text in ("nodes=0,ranks=8", "node=3", "ranks="):
        with pytest.raises(UserError, match="is not a known amount"):
            counts(text)


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        ("ranked={nodes: 5}", "compute, for stage1: 5 nodes do not share 32 processes equally"),
        ("ranked={nodes: 8, gpus: 8}", "8 GPUs on a node are not one for each of the 4 processes there"),
        ("cpu={nodes: 2}", "2 nodes do not share 1 process equally"),
        ("ranked={spares: 1}", "compute, for stage1: spares are for stages on several nodes"),
        (
            "stages={sft: {gpus: 1}}",
            "compute.stages.sft: the recipe has no such stage. Stages and kinds of stages are documents",
        ),
    ],
)
def test_what_no_cluster_could_give_is_refused_with_the_stage(compute: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        recipe = load_recipe(RECIPE, [*_WIDE, f"compute.{compute}"])
        requests(recipe, graph(recipe))


def test_flyte_knows_nothing_of_spares() -> None:
    with pytest.raises(UserError, match="compute: spares: Flyte has no spares"):
        settings(PodRequest(nodes=2, spares=1))


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
