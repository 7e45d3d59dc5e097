"""What must not matter: the number of ranks and how a batch is cut up."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, ConstantSchedule
from lehr.data.loader import Batch
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.transformer import Transformer
from lehr.runtime.errors import InfraError
from lehr.train.batches import Batches
from lehr.train.fit import fit
from lehr.train.loop import Plan
from lehr.train.next_token import NextToken, TrainingPhase, make_loader
from lehr.train.state import TrainState
from tests.train.corpus import MODEL_320, corpus
from tests.train.pieces import context

STEPS = 100


def _phase(ramp: BatchRamp | None = None) -> TrainingPhase:
    mix = Mix(weights={"a": 1.0}, max_epochs=100.0)
    optim = Optim(lr=3e-3, z_loss=1e-4)
    return TrainingPhase(mix, STEPS * 8 * 16, 8, 16, optim, ConstantSchedule(kind="constant"), 1000, 5, ramp)


def train_on_rank(ranks: Ranks, folder: Path, out: Path, micro_batch: int) -> list[float]:
    phase = _phase()
    state = TrainState.fresh(Transformer(MODEL_320).initialise(1), phase.optim)
    objective = NextToken(state, make_loader(folder, folder, phase), phase, micro_batch)
    fit(context(out), ranks, state, objective, Plan(STEPS, phase.rate, phase.clip_norm, 1000))
    if not ranks.first:
        return []
    return [json.loads(line)["loss"] for line in (out / "curves.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_world_size_and_micro_batches_change_no_loss(tmp_path: Path) -> None:
    """100 steps on 1, 2 and 4 ranks, and in micro-batches of 3: the same losses to 1e-5 relative."""
    folder = corpus(tmp_path)
    alone = train_on_rank(Ranks(), folder, tmp_path / "alone", 0)
    assert alone[-1] < 0.8 * alone[0]
    for name, world, micro in (("cut", 1, 3), ("two", 2, 0), ("four", 4, 1)):
        out = tmp_path / name
        out.mkdir()
        got = run_ranks(world, 1, train_on_rank, folder, out, micro)
        np.testing.assert_allclose(got, alone, rtol=1e-5, err_msg=name)


def test_instances_that_repeat_themselves_bear_no_loss(tmp_path: Path) -> None:
    phase = _phase()
    loader = make_loader(corpus(tmp_path), tmp_path, phase)
    state = TrainState.fresh(Transformer(MODEL_320).initialise(1), phase.optim)
    row = np.tile(np.arange(5), 40)[None, :].astype(np.int64)
    good = np.random.default_rng(0).integers(0, 300, row.shape)
    both = Batch(np.concatenate([row, good]), np.concatenate([row, good]))

    class OneBatch:
        def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
            return Batch(both.tokens_BT[:, :16].repeat(2, 1)[:, :16], both.labels_BT[:, :16].copy())

    assert loader.plan.sequence_length == 16
    masked = NextToken(state, OneBatch(), phase).backward(0, Ranks())  # type: ignore[arg-type]
    assert masked.weight == 32 and masked.extra["masked_instances"][0] == 0  # 16 tokens hold no 32 repeats of anything
    OneBatch.rows = lambda self, *_: Batch(both.tokens_BT.copy(), both.labels_BT.copy())  # type: ignore[assignment,method-assign]
    long = TrainState.fresh(Transformer(MODEL_320.model_copy(update={"max_seq_len": 200})).initialise(1), phase.optim)
    masked = NextToken(long, OneBatch(), phase).backward(0, Ranks())  # type: ignore[arg-type]
    assert masked.weight == 200 and masked.extra["masked_instances"][0] == 1


def test_batches_that_double() -> None:
    """From 2 to 8 sequences, doubling every 10 sequences' worth of tokens; steps and instances are inverse."""
    batches = Batches.of(100 * 16, 8, 16, BatchRamp(start=2, double_every_tokens=160))
    sizes = [batches.at(step)[1] for step in range(batches.total)]
    assert sizes == [2] * 5 + [4] * 2 + [8] * 10
    firsts = [batches.at(step)[0] for step in range(batches.total)]
    assert firsts == [sum(sizes[:step]) for step in range(len(sizes))]
    assert batches.all_instances == sum(sizes) == 98
    assert [batches.step_of(i) for i in range(98)] == [s for s, size in enumerate(sizes) for _ in range(size)]


def large_sums(ranks: Ranks, how: str) -> list[float]:
    """Sums through shared memory: several, of two sizes in turns (two trained models), in place."""
    out = []
    for call in range(6):
        x = torch.full((70_000 + (call % 2) * 10,), float(ranks.rank + 1 + 10 * call))
        if how == "killed" and ranks.rank == 1 and call == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.sum_(x)
        assert bool((x == x[0]).all())
        out.append(float(x[0]))
    assert len(ranks._shared) == 2, "memory is made once a size"
    return out


def test_large_sums_go_through_shared_memory() -> None:
    assert run_ranks(3, 1, large_sums, "well") == [6.0 + 30 * call for call in range(6)]
    with pytest.raises(InfraError, match="died"):
        run_ranks(2, 1, large_sums, "killed")
