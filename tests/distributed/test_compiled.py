"""Compiled blocks under sharded layouts: the same training, one graph for all layers, and evaluation compiles nothing.

The graphs run as they are traced (`aot_eager`): layouts matter for what is traced, and generating code for each costs half a
minute on two ranks. tests/train/test_compiled.py has the generated code.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lehr.config import load_recipe
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.distributed.sharding import pretraining as sharded
from lehr.distributed.sharding.init import Sharded
from lehr.runtime.errors import UserError
from lehr.runtime.hardware import cpp_compiler
from lehr.train.fit import Evaluator
from lehr.train.phase import PretrainSpec
from lehr.train.state import TrainState
from tests.distributed.cases import Case, corpus, curve, distance, train_each, weights

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor": {"layout": "fsdp", "tensor": 2},
    "fsdp": {"layout": "fsdp"},
    "pipeline": {"layout": "fsdp", "pipeline": 2},
}


def _looks(work: PretrainSpec, _sharded: Sharded) -> Evaluator:
    """An evaluator that shows the model another length each time."""

    def evaluate(state: TrainState, ranks: Ranks) -> dict[str, float]:
        with torch.no_grad():
            hidden = state.model.hidden(torch.zeros((1, 1 + state.step), dtype=torch.int64))
        return {"width": float(hidden.shape[-1])}

    return evaluate


def graphs_of(ranks: Ranks, works: list[PretrainSpec]) -> list[list[int]]:
    """[graphs, breaks] of each stretch, trained on these ranks one after the other."""
    torch.compile = partial(torch.compile, backend="aot_eager")
    sharded._evaluator = _looks
    found, counters = [], torch._dynamo.utils.counters
    for work in works:
        torch._dynamo.reset()
        counters.clear()
        train_each(ranks, [work])
        found.append([counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())])
    return found


def _losses(folder: Path) -> list[float]:
    return [row["loss"] for row in curve(folder) if "loss" in row]


@pytest.mark.skipif(not cpp_compiler(), reason="there is no C++ compiler")
@pytest.mark.long
def test_compiled_layouts_train_as_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", torch.compile)  # what rank 0 changes is put back
    monkeypatch.setattr(sharded, "_evaluator", sharded._evaluator)
    data = corpus(tmp_path / "corpus")
    train_each(Ranks(), [Case("alone", "olmo2", {}, steps=STEPS).work(tmp_path, data)])
    works = []
    for name, tp_shard in LAYOUTS.items():
        case = Case(name, "olmo2", {"processes": 2, "micro_batch": 4, **tp_shard}, steps=STEPS, compile="on")
        works.append(replace(case.work(tmp_path, data), in_loop_steps=2))
    assert run_ranks(2, 1, graphs_of, works) == [[1, 0]] * len(LAYOUTS)
    alone = _losses(tmp_path / "alone")
    assert len(alone) == STEPS
    for name in LAYOUTS:
        np.testing.assert_allclose(_losses(tmp_path / name), alone, rtol=2e-6, err_msg=name)
        assert distance(weights(tmp_path / name), weights(tmp_path / "alone")) < 1e-4


def test_what_torch_cannot_compile_is_refused() -> None:
    recipe = ROOT / "recipes" / "tiny" / "olmo2.yaml"
    tensor = ["parallel.processes=2", "parallel.layout=fsdp", "parallel.tensor=2", "parallel.activation_checkpointing=full"]
    load_recipe(recipe, [*tensor, "compile=auto"])
    with pytest.raises(UserError, match=r"activation_checkpointing=full and parallel\.tensor=2"):
        load_recipe(recipe, [*tensor, "compile=on"])
