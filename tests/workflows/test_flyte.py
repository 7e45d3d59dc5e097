"""What Flyte will see: types that survive the way between tasks, and a workflow that serialises."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from flytekit import FlyteContextManager
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.type_engine import TypeEngine
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.tools.translator import get_serializable

from lehr.artifact import ArtifactRef
from lehr.config import load_recipe
from lehr.config.base import Config
from lehr.errors import InfraError, UserError
from tasks.refs import RunRef
from tasks.settings import owned
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


def test_the_workflow_serialises_with_retries_and_a_map() -> None:
    image = ImageConfig(default_image=Image("lehr", "example/lehr", "1"), images=[Image("lehr", "example/lehr", "1")])
    settings = SerializationSettings(project="p", domain="d", version="v", image_config=image)
    found: OrderedDict = OrderedDict()
    spec = get_serializable(found, settings, pretrain_to_eval)
    templates = [entity.template for entity in found.values() if hasattr(entity, "template")]
    tasks = {t.id.name: t for t in templates if getattr(t, "container", None) is not None}
    assert {"tasks.train.stage1", "tasks.train.soup", "tasks.post.rlvr", "tasks.run.publish"} <= set(tasks)
    stage1 = tasks["tasks.train.stage1"]
    assert stage1.metadata.retries.retries == 3
    assert stage1.container.image == "example/lehr:1"
    requests = {r.name: r.value for r in stage1.container.resources.requests}
    assert len(requests) == 2
    mapped = [n for n in spec.template.nodes if n.array_node is not None]
    assert len(mapped) == 2  # the anneals and their scores
    assert list(spec.template.interface.inputs) == ["recipe", "out", "overrides"]


def test_only_the_machines_errors_are_retried() -> None:
    @owned
    def fails(error: Exception) -> None:
        raise error

    with pytest.raises(FlyteRecoverableException, match="power"):
        fails(InfraError("power"))
    with pytest.raises(UserError):
        fails(UserError("bad recipe"))
