"""What `lehr submit` refuses before it asks a cluster. The rest is seen on one (tests/cluster/test_submit.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.cli.submit import _asked_gpus, _refuse_out
from lehr.config import load_recipe
from lehr.runtime.errors import UserError

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"


def test_several_nodes_for_a_stage_are_refused() -> None:
    with pytest.raises(UserError, match="compute, for stage1: a stage on several nodes"):
        _asked_gpus(load_recipe(RECIPE, ["compute.stages={stage1: {nodes: 2}}"]))
    assert _asked_gpus(load_recipe(RECIPE))["stage1"] == 0


def test_a_step_may_not_bear_the_drivers_name() -> None:
    with pytest.raises(UserError, match="named 'driver'"):
        _asked_gpus(load_recipe(RECIPE, ["posttraining.rlvr.name=driver"]))


def test_gpus_are_those_of_the_recipe() -> None:
    found = _asked_gpus(load_recipe(RECIPE, ["compute.ranked={gpus: 2}", "compute.stages={sft: {gpus: 0}}"]))
    assert (found["stage1"], found["sft"], found["documents"]) == (2, 0, 0)


@pytest.mark.parametrize("out", ["runs/x", "/mnt/shared", "gs://bucket/x", "file:///mnt/x"])
def test_a_place_that_pods_have_not_is_refused(out: str) -> None:
    with pytest.raises(UserError):
        _refuse_out(out)
    _refuse_out("s3://bucket/x")
