"""What Flyte will see: types that survive the way between tasks, and a workflow that serialises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from flytekit import FlyteContextManager
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.type_engine import TypeEngine
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.extras.pydantic_transformer.transformer import PydanticTransformer
from flytekit.tools.translator import get_serializable
from pydantic import BaseModel

from lehr.artifact import ArtifactRef
from lehr.config import load_recipe
from lehr.config.base import Config
from lehr.errors import InfraError, UserError
from tasks import ranks
from tasks.refs import RunRef
from tasks.schemas import RememberingTransformer
from tasks.settings import asked_for, owned
from workflows.pretrain_to_eval import pretrain_to_eval

ROOT = Path(__file__).resolve().parents[2]


def _round_trip(value: object) -> object:
    context, kind = FlyteContextManager.current_context(), type(value)
    literal = TypeEngine.to_literal(context, value, kind, TypeEngine.to_literal_type(kind))
    return TypeEngine.to_python_value(context, literal, kind)


def test_runs_and_artifacts_survive_the_way_between_tasks() -> None:
    recipe = load_recipe(ROOT / "recipes" / "tiny" / "olmo2.yaml", ["seed=9007199254740993", "stage1.optim.lr=1"])
    run = RunRef(recipe=recipe, root="/data/run", key="k", command="lehr run")
    assert _round_trip(run) == run
    ref = ArtifactRef(uri="/data/run/artifacts/soup-1", digest="d" * 64, kind="checkpoint", stage="soup")
    assert _round_trip(ref) == ref


def _parts(config: Config) -> Iterator[Config]:
    """`config` and every model in it."""
    yield config
    for name in type(config).model_fields:
        value = getattr(config, name)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            if isinstance(inner, Config):
                yield from _parts(inner)


def test_every_part_of_a_recipe_survives_too() -> None:
    """Each may become a task's own input when the pipeline is split further."""
    parts = list(_parts(load_recipe(ROOT / "recipes" / "tiny" / "olmo2.yaml")))
    assert {"Recipe", "Model", "JsonlSource", "SyntheticSource", "Mix", "Optim", "Guard", "Dpo", "TaskPlan"} <= {
        type(p).__name__ for p in parts
    }
    for part in parts:
        assert _round_trip(part) == part, type(part)


def test_types_are_those_that_flytekit_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are remembered (tasks/schemas.py), and flytekit writes into what it is given for a union."""
    kinds: list[Any] = [RunRef, ArtifactRef, list[ArtifactRef], ArtifactRef | None, ArtifactRef, RunRef]
    ours = [TypeEngine.to_literal_type(kind).to_flyte_idl() for kind in kinds]
    assert isinstance(TypeEngine.get_transformer(RunRef), RememberingTransformer)
    monkeypatch.setitem(TypeEngine._REGISTRY, BaseModel, PydanticTransformer())
    assert [TypeEngine.to_literal_type(kind).to_flyte_idl() for kind in kinds] == ours


@pytest.fixture(scope="module")
def serialised() -> tuple[object, dict[str, Any]]:
    """The workflow's spec, and its tasks' templates by name, as `pyflyte register` sends them."""
    image = ImageConfig(default_image=Image("lehr", "example/lehr", "1"), images=[Image("lehr", "example/lehr", "1")])
    settings = SerializationSettings(project="p", domain="d", version="v", image_config=image)
    found: OrderedDict = OrderedDict()
    spec = get_serializable(found, settings, pretrain_to_eval)
    templates = [entity.template for entity in found.values() if hasattr(entity, "template")]
    return spec, {t.id.name: t for t in templates if getattr(t, "k8s_pod", None) is not None}


def test_the_workflow_serialises_with_retries_and_a_map(serialised: tuple[Any, dict[str, Any]]) -> None:
    spec, tasks = serialised
    assert {"tasks.train.stage1", "tasks.train.soup", "tasks.post.rlvr", "tasks.run.publish"} <= set(tasks)
    stage1 = tasks["tasks.train.stage1"]
    assert stage1.metadata.retries.retries == 3 and stage1.container is None
    primary = stage1.k8s_pod.pod_spec["containers"][0]
    assert primary["image"] == "example/lehr:1" and primary["args"][:4] == ["python", "-m", "infra.entry", "pyflyte-execute"]
    assert primary["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    mapped = [n for n in spec.template.nodes if n.array_node is not None]
    assert len(mapped) == 2  # the anneals and their scores
    assert list(spec.template.interface.inputs) == ["recipe", "out", "overrides"]


def test_every_task_that_trains_is_checked_first_and_none_has_rights(serialised: tuple[Any, dict[str, Any]]) -> None:
    """The pods of the whole pipeline, anneals of the map included: what Flyte's engine makes its pods of."""
    _, tasks = serialised
    assert len(tasks) >= 13 and any("map" in name for name in tasks)
    for name, template in tasks.items():
        pod = template.k8s_pod
        spec, small = pod.pod_spec, name.startswith("tasks.run.")
        assert template.config["primary_container_name"] == spec["containers"][0]["name"] == "primary", name
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True, name
        inits = spec.get("initContainers") or []
        assert [c["name"] for c in inits] == ([] if small else ["preflight", "preflight-gate"]), name
        assert pod.metadata.labels == ({} if small else {"lehr.dev/preflight": "true"}), name
        assert all(c["image"] == "example/lehr:1" for c in (*inits, *spec["containers"])), name
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in (*inits, *spec["containers"])), name


REGISTER = """
import json
from collections import OrderedDict
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable
from workflows.pretrain_to_eval import pretrain_to_eval
images = ImageConfig(default_image=Image('lehr', 'x', '1'), images=[Image('lehr', 'x', '1')])
found = OrderedDict()
get_serializable(found, SerializationSettings(project='p', domain='d', version='v', image_config=images), pretrain_to_eval)
templates = [e.template for e in found.values() if getattr(getattr(e, 'template', None), 'k8s_pod', None)]
print(json.dumps({t.id.name: [t.type, t.custom, t.metadata.retries.retries, t.k8s_pod.pod_spec] for t in templates}))
"""


@pytest.fixture(scope="module")
def registered() -> dict[str, list[Any]]:
    """[type, custom, retries, pod] of each task, registered for GPUs and for several ranks on several nodes."""
    asked = {"LEHR_TASK_RESOURCES": "cpu=32,mem=256Gi,gpu=8", "LEHR_TASK_RANKS": "nodes=4,ranks=8"}
    environment = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", REGISTER], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def test_ranks_are_chosen_at_registration_and_started_by_flyte(
    registered: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pod of a PyTorchJob is made from the task's own: preflight, gate and all."""
    ranked = {re.sub("_(anneal|evaluate)_.*", "", name) for name, (kind, *_) in registered.items() if kind == "pytorch"}
    assert ranked == {
        *("tasks.train.stage1", "tasks.train.ramp", "tasks.train.map", "tasks.evaluate.evaluate", "tasks.evaluate.map"),
        *("tasks.post.sft", "tasks.post.pairs", "tasks.post.dpo", "tasks.post.rlvr"),
    }
    assert registered["tasks.train.soup"][:2] == registered["tasks.run.open_run"][:2] == ["python-task", None]
    for name, (kind, custom, retries, pod) in registered.items():
        primary = pod["containers"][0]
        assert {"name": "LEHR_TASK_RANKS", "value": "nodes=4,ranks=8"} in primary["env"], name
        if kind == "pytorch":
            elastic = {"rdzvBackend": "c10d", "minReplicas": 4, "maxReplicas": 4, "nprocPerNode": 8}
            assert custom["elasticConfig"] == elastic and custom["workerReplicas"] == {"replicas": 4}, name
            assert custom["runPolicy"] == {"cleanPodPolicy": "CLEANPOD_POLICY_RUNNING"} and retries == 3, name
            assert [c["name"] for c in pod["initContainers"]] == ["preflight", "preflight-gate"], name
            assert primary["args"][:3] == ["python", "-m", "infra.entry"], name
            mounts = [mount["mountPath"] for mount in primary["volumeMounts"]]
            assert len(mounts) == len(set(mounts)) and "/dev/shm" in mounts, name
    monkeypatch.setenv("LEHR_TASK_RANKS", "nodes=4,ranks=8")
    ranks.check(32)
    with pytest.raises(UserError, match="registered for 32 ranks, the recipe asks for 2"):
        ranks.check(2)
    with pytest.raises(UserError, match="nodes=0"):
        ranks.elastic("nodes=0,ranks=8")


def test_resources_are_chosen_at_registration_and_the_preflight_has_the_tasks_gpus(registered: dict[str, list[Any]]) -> None:
    spec = registered["tasks.train.stage1"][3]
    preflight, primary = spec["initContainers"][0], spec["containers"][0]
    assert primary["resources"]["limits"] == {"cpu": "32", "memory": "256Gi", "gpu": "8"}
    assert preflight["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {"name": "LEHR_EXPECTED_GPUS", "value": "8"} in preflight["env"]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    with pytest.raises(UserError, match="gpus=8"):
        asked_for("gpus=8")


def test_without_a_cluster_the_pods_cost_nothing() -> None:
    code = "import sys, workflows.pretrain_to_eval; sys.exit(any(m.startswith('kubernetes') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_the_machines_errors_are_retried() -> None:
    @owned
    def fails(error: Exception) -> None:
        raise error

    with pytest.raises(FlyteRecoverableException, match="power"):
        fails(InfraError("power"))
    with pytest.raises(UserError):
        fails(UserError("bad recipe"))
