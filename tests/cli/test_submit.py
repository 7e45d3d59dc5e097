"""What `lehr submit` refuses before it asks a cluster. The rest is seen on one (tests/cluster/test_submit.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.cli.submit import _asked_gpus, _refuse_out
from lehr.config import load_recipe
from lehr.runtime.errors import UserError
from lehr.tasks.registration import RANKS

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"


def test_several_nodes_for_a_stage_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RANKS, "nodes=2,ranks=1")
    with pytest.raises(UserError, match="on several nodes"):
        _asked_gpus(load_recipe(RECIPE))
    monkeypatch.setenv(RANKS, "nodes=1,ranks=2")
    assert _asked_gpus(load_recipe(RECIPE))["stage1"] == 0


@pytest.mark.parametrize("name", ["driver", "report"])
def test_a_step_may_not_bear_a_name_of_ours(name: str) -> None:
    recipe = load_recipe(RECIPE, [f"posttraining.rlvr.name={name}"])
    with pytest.raises(UserError, match=f"named '{name}'"):
        _asked_gpus(recipe)


def test_gpus_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _asked_gpus(load_recipe(RECIPE, ["compute.ranked={gpus: 8}", "compute.stages={sft: {gpus: 2}}"]))
    assert (found["stage1"], found["sft"], found["documents"]) == (8, 2, 0)


@pytest.mark.parametrize("out", ["runs/x", "/mnt/shared", "gs://bucket/x", "file:///mnt/x"])
def test_a_place_that_pods_have_not_is_refused(out: str) -> None:
    with pytest.raises(UserError):
        _refuse_out(out)
    _refuse_out("s3://bucket/x")
