"""What the loop does beside training: it waits for little, collects garbage when it is told, and changes no result by it."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import ConstantSchedule
from lehr.config.training import Watch
from lehr.data.loader import Batch
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.runtime.metrics import Metric, declare
from lehr.runtime.ports import NullTracker
from lehr.train.checkpointing.resume_state import ResumeFiles
from lehr.train.loop import Plan, Sums, train
from lehr.train.next_token import NextToken, TrainingPhase
from lehr.train.prefetch import Prefetcher
from lehr.train.recorder import Recorder
from lehr.train.state import TrainState
from lehr.train.sync_debugging import watched

sys.path.insert(0, str(Path(__file__).parent))
import pieces


class Rows:
    """Eight rows a step, of which some have no label at `masked` steps."""

    def __init__(self, masked: bool) -> None:
        self.masked = masked

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        rows = np.random.default_rng(first).integers(0, 50, (count, 17))[rank::world]
        labels = rows[:, 1:].copy()
        if self.masked:
            labels[0, :5] = -100
        return Batch(rows[:, :-1].copy(), labels)


def _waits(micro_batch: int, masked: bool = False, **model: Any) -> dict[str, float]:
    """Operator and place of every wait of ten steps, each a step."""
    config = pieces.MODEL.model_copy(update=model)
    optim = Optim(lr=1e-3, z_loss=1e-4)
    state = TrainState.fresh(Transformer(config).initialise(1), optim)
    phase = TrainingPhase(Mix(weights={"a": 1.0}), 8 * 16 * 10, 8, 16, optim, ConstantSchedule(kind="constant"), 100, 0)
    objective = NextToken(state, Rows(masked), phase, micro_batch)
    recorder = Recorder("t", None, NullTracker(), ResumeFiles(Path()))
    with watched() as calls:
        train(state, objective, Plan(10, phase.rate, phase.clip_norm, 100), Ranks(), recorder)
    return {f"{what} {place.split(':')[0]}": count / 10 for (place, what), count in calls.items()}


def test_a_step_waits_twice_however_it_is_cut_up() -> None:
    """For the sums over ranks, and for the gradient norm that the guard judges."""
    twice = {"tolist lehr/train/loop.py": 1.0, "_local_scalar_dense lehr/optim/adamw.py": 1.0}
    assert _waits(micro_batch=8) == _waits(micro_batch=2) == twice
    masked = _waits(micro_batch=4, masked=True)  # picking labelled positions waits for their number
    assert masked.pop("index lehr/train/losses.py") == 4.0
    assert all(masked[key] == 1.0 for key in twice)


def test_experts_add_no_wait_for_their_metrics() -> None:
    waits = _waits(micro_batch=4, n_experts=4, top_k=2)
    assert not [key for key in waits if "next_token" in key or "later" in key]


@dataclass
class Peeking(pieces.Copying):
    state: TrainState

    def backward(self, step: int, ranks: Ranks) -> Sums:
        self.state.optimizer.flat.values[0].item()
        return pieces.Copying(self.state.model).backward(step, ranks)


def test_a_run_says_where_it_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_DEBUG_SYNC", "1")
    notes = pieces.Notes()
    artifact = pieces.stage(tmp_path, Peeking, steps=6, tracker=notes)
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "values[0].item()" in text)
    said = artifact.path("logs/synchronisations.txt").read_text().splitlines()
    assert f"  1.00 a step  _local_scalar_dense  tests/train/test_upkeep.py:{line}" in said
    assert said[0] in notes.texts and "t: where the host waits for the device" in notes.texts


def test_garbage_is_collected_at_fixed_steps_and_at_no_other(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    steps: list[int] = []

    @dataclass
    class Littering(pieces.Copying):
        state: TrainState

        def backward(self, step: int, ranks: Ranks) -> Sums:
            steps.append(step)
            [[] for _ in range(20_000)]
            for _ in range(3000):
                cycle: list[Any] = []
                cycle.append(cycle)
            return pieces.Copying(self.state.model).backward(step, ranks)

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and steps and len(steps) < 30:
            seen.append((len(steps), info["generation"]))

    gc.collect()
    gc.callbacks.append(note)
    try:
        pieces.stage(tmp_path, Littering, watch=Watch(collect_steps=10))
    finally:
        gc.callbacks.remove(note)
    assert seen == [(10, 1), (20, 1)]
    assert gc.isenabled()


declare(Metric("where", "rank"))
declare(Metric("loss_again", "loss, again"))


class Telling(pieces.Copying):
    """One metric differs from rank to rank, one is a tensor."""

    extras = ("rows", "where", "loss_again")

    def __init__(self, state: TrainState) -> None:
        super().__init__(state.model)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = super().backward(step, ranks)
        again = torch.tensor(sums.loss, dtype=torch.float64)
        return Sums(
            sums.loss, sums.weight, sums.tokens, {**sums.extra, "where": (ranks.rank, 1.0), "loss_again": (again, sums.weight)}
        )


@pytest.mark.parametrize("world", [1, 2])
def test_metrics_beside_the_steps_change_nothing(world: int, tmp_path: Path) -> None:
    """Seven steps at a time, with evaluations, checkpoints and a norm in between: the same bits, the same log."""
    runs = {
        every: pieces.stage(
            tmp_path / str(every), Telling, evaluator=weigh, world=world, watch=Watch(metrics_steps=every, norm_steps=3)
        )
        for every in (1, 7)
    }
    assert runs[7].manifest.digest == runs[1].manifest.digest
    curves = pieces.curves(runs[1])
    assert pieces.curves(runs[7]) == curves
    steps = [row for row in curves if "loss" in row]
    assert [row["where"] for row in steps] == [(world - 1) / 2] * 30
    assert [row["loss_again"] for row in steps] == [row["loss"] for row in steps]


def weigh(state: TrainState, ranks: Ranks) -> dict[str, float]:
    return {"dev_weight": float(state.optimizer.flat.values.sum())}


def test_with_metrics_beside_them_killed_steps_come_again_with_the_same_log(tmp_path: Path) -> None:
    watch = Watch(metrics_steps=3)
    whole = pieces.stage(tmp_path / "whole", pieces.plain, watch=watch)
    for at in (7, 22):
        with pytest.raises(pieces.Stop):
            pieces.stage(tmp_path / "cut", lambda state, at=at: pieces.StopAt(state.model, at, poison=-1), watch=watch)
    cut = pieces.stage(tmp_path / "cut", pieces.plain, watch=watch)
    assert cut.manifest.digest == whole.manifest.digest and pieces.curves(cut) == pieces.curves(whole)


def test_batches_made_ahead_are_the_same_ones() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        if step == 7:
            raise ValueError("damaged shard")
        made.append(step)
        return 10 * step

    ahead = Prefetcher(make, 7)
    assert [ahead(step) for step in (0, 1, 2, 5, 6)] == [0, 10, 20, 50, 60]  # 3 and 4 are jumped over
    assert sorted(made) == [0, 1, 2, 3, 5, 6]  # each once, the one made in vain too, and none beyond the last
    broken = Prefetcher(make, 9)
    assert broken(6) == 60
    with pytest.raises(ValueError, match="damaged shard"):
        broken(7)


def test_no_position_is_picked_where_all_have_labels() -> None:
    """The same bits either way."""
    from lehr.train.losses import cross_entropy

    model = Transformer(pieces.MODEL).initialise(1)
    tokens_BT = torch.randint(0, 50, (4, 16), generator=torch.Generator().manual_seed(1))
    grads = []
    for whole in (False, True):
        model.zero_grad()
        ce = cross_entropy(model, tokens_BT, tokens_BT, with_z=True, whole=whole)
        (ce.nats + ce.z).backward()  # type: ignore[no-untyped-call]
        grads.append([ce.nats.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
