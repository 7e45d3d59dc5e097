"""Compiled blocks: the same losses, when it pays, and never for evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import ConstantSchedule
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.runtime.hardware import cpp_compiler
from lehr.train.compilation import compile_blocks, pays, uncompiled
from lehr.train.next_token import NextToken, TrainingPhase, make_loader
from lehr.train.state import TrainState
from tests.train.corpus import MODEL_320, corpus

STRETCH = TrainingPhase(
    Mix(weights={"a": 1.0}, max_epochs=100.0), 8 * 8 * 16, 8, 16, Optim(lr=3e-3, z_loss=1e-4),
    ConstantSchedule(kind="constant"), 1000, 5,
)  # fmt: skip


def _losses(folder: Path, compiled: bool) -> tuple[list[float], Transformer]:
    state = TrainState.fresh(Transformer(MODEL_320).initialise(1), STRETCH.optim)
    if compiled:
        compile_blocks(state.model)
    objective = NextToken(state, make_loader(folder, folder, STRETCH), STRETCH)
    losses = []
    for step in range(STRETCH.steps):
        state.optimizer.zero()
        sums = objective.backward(step, Ranks())
        state.optimizer.clip(sums.weight, 1.0)
        state.optimizer.update(3e-3)
        losses.append(float(sums.loss) / sums.weight)
    return losses, state.model


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not cpp_compiler(), reason="there is no C++ compiler")
def test_losses_are_the_same_and_evaluation_compiles_nothing(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    plain, _ = _losses(folder, compiled=False)
    compiled, model = _losses(folder, compiled=True)
    np.testing.assert_allclose(compiled, plain, rtol=1e-5)
    assert compiled[-1] < compiled[0]
    count = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert count > 0
    with torch.no_grad():
        for length in (3, 5, 9):
            uncompiled(model)(torch.zeros((1, length), dtype=torch.int64))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == count


def test_short_stages_and_experts_are_left_alone() -> None:
    model = Transformer(MODEL_320)
    hour = 3600 * 1e11
    assert pays("auto", model, 2 * hour, 2) == cpp_compiler()
    assert not pays("auto", model, hour / 60, 1) and not pays("off", model, 2 * hour, 1)
    experts = MODEL_320.model_copy(update={"family": "granitemoe", "n_experts": 4, "top_k": 2})
    assert not pays("auto", Transformer(experts), 2 * hour, 1)
