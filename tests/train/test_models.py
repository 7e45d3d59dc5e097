"""Several models trained in one loop: each as it would be alone, one decision for all, one save."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lehr.config.optim import Guard, Optim
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.transformer import Transformer
from lehr.runtime.errors import Bug
from lehr.train.checkpointing.resume_state import ResumeFiles
from lehr.train.fit import fit
from lehr.train.loop import Pace, Plan, Sums
from lehr.train.state import Restored, Trained, TrainState
from tests.train import pieces
from tests.train.pieces import MODEL, Copying, context

WIDE = MODEL.model_copy(update={"n_heads": 1, "n_kv_heads": 1, "mlp_hidden": 40})
OTHER = Optim(lr=1e-2, weight_decay=0.0, clip_norm=0.3, guard=Guard(window=16, sigmas=3.0))
# What a resume file of one model held before there could be several.
NAMES = {
    "values", "first", "second", "updates", "guard.history", "guard.count", "rollback.skipped", "rollback.bad",
    "step", "tokens", "evaluated",
}  # fmt: skip


@dataclass
class Pair(Copying):
    """Both models learn the pattern; `poison` is the step whose gradients of the second are not numbers."""

    state: TrainState
    poison: int = -1

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = Copying(self.state.model).backward(step, ranks)
        its = Copying(self.state.named("second", Transformer), self.poison).backward(step, ranks)
        return Sums(sums.loss, sums.weight, sums.tokens, sums.extra, {"second": (its.loss, its.weight)})


def _rate(step: int, _: int) -> float:
    return 3e-3 * (1 - step / 20)


def _other_rate(step: int, _: int) -> float:
    return 1e-2 / (1 + step)


def _alone(folder: Path, ranks: Ranks, model: Any, optim: Optim, pace: Pace) -> TrainState:
    state = TrainState.fresh(model, optim)
    return fit(context(folder), ranks, state, Copying(state.model), Plan(20, pace.rate, pace.clip_norm, 100))


def _both() -> TrainState:
    state = TrainState.fresh(Transformer(MODEL).initialise(1), pieces.OPTIM)
    state.models["second"] = Trained.fresh(Transformer(WIDE).initialise(2), OTHER)
    return state


def _plan(second: Pace) -> Plan:
    return Plan(20, _rate, lambda *_: 1.0, 100, models={"second": second})


def on_ranks(ranks: Ranks, folder: Path) -> list[tuple[Tensor, Tensor]]:
    """(weights with the other, weights alone) of both models."""
    second = Pace(_other_rate, lambda *_: 0.3)
    first = _alone(folder / "first", ranks, Transformer(MODEL).initialise(1), pieces.OPTIM, Pace(_rate, lambda *_: 1.0))
    other = _alone(folder / "second", ranks, Transformer(WIDE).initialise(2), OTHER, second)
    state = _both()
    fit(context(folder / "both"), ranks, state, Pair(state), _plan(second))
    together = [state.whole.flat.values, state.models["second"].whole.flat.values]
    return list(zip(together, (first.whole.flat.values, other.whole.flat.values), strict=True))


@pytest.mark.parametrize("world", [1, 2])
def test_each_model_trains_as_it_would_alone(world: int, tmp_path: Path) -> None:
    """Own optimiser, clip and learning rate: the very bits of two runs with one model each."""
    for together, alone in run_ranks(world, 1, on_ranks, tmp_path):
        assert torch.equal(together, alone)


def test_what_one_guard_refuses_changes_no_model(tmp_path: Path) -> None:
    state = _both()
    fit(context(tmp_path), Ranks(), state, Pair(state, poison=7), _plan(Pace(_other_rate, lambda *_: 0.3)))
    rows = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "skipped" in row] == [8]
    assert state.optimizer.updates == state.models["second"].optimizer.updates == 19
    assert all(torch.isfinite(trained.whole.flat.values).all() for trained in state.models.values())
    assert "second_grad_norm" not in rows[7] and math.isfinite(rows[7]["grad_norm"])
    assert rows[9]["second_learning_rate"] == pytest.approx(1e-3) and rows[-1]["second_loss"] < rows[0]["second_loss"]


def test_a_model_without_a_pace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Bug, match=r"\['second'\] are trained"):
        fit(context(tmp_path), Ranks(), _both(), Copying(_both().model), Plan(2, _rate, lambda *_: 1.0, 100))


def test_files_of_one_model_have_the_names_that_they_always_had(tmp_path: Path) -> None:
    one, both = pieces.run(tmp_path / "one", steps=3), _both()
    assert one.tensors().keys() == NAMES
    old = {name: tensor.clone() for name, tensor in one.tensors().items()}
    again = TrainState.fresh(Transformer(MODEL).initialise(5), pieces.OPTIM)
    again.restore(old, "")
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in old.items())
    assert both.tensors().keys() - NAMES == {
        f"models.second.{name}" for name in ("values", "first", "second", "updates", "guard.history", "guard.count")
    }


def test_a_used_up_roll_out_leaves_the_next_save(tmp_path: Path) -> None:
    state, files = _both(), ResumeFiles(tmp_path)
    for step, held in enumerate([{"x": torch.arange(3)}, {"x": torch.arange(5)}, None]):
        state.step, state.rollout = step, Restored(held) if held else None
        files.save(step, state.tensors(), 0, lambda size: None)
        files.wait()
        newest = files.newest()
        assert newest is not None
        again = _both()
        again.restore(newest[0], "")
        if held is None:
            assert again.rollout is None and newest[0].keys() == state.tensors().keys()
        else:
            assert again.rollout is not None and torch.equal(again.rollout.tensors()["x"], held["x"])
