"""What spectators of training are told beside its log: waits for data, and what is measured on the way."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lehr.config.mix import Mix
from lehr.config.schedule import ConstantSchedule
from lehr.config.training import Watch
from lehr.data.loader import Batch
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.post.batches import OfExamples
from lehr.post.preference import DpoObjective, DpoSettings, RenderedPair, reference_logprobs
from lehr.post.rendered import Rendered
from lehr.post.sft import Replay, SftObjective
from lehr.runtime.ports import NullTracker
from lehr.train import step_times
from lehr.train.loop import Sums
from lehr.train.next_token import NextToken, TrainingPhase
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces

SLOW_SECONDS = 0.05


class Told(NullTracker):
    """Keeps all that it hears of steps and evaluations."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.evaluations: list[tuple[str, int, dict[str, float]]] = []

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self.steps.append(dict(metrics))

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self.evaluations.append((stage, step, dict(metrics)))


class SlowRows:
    """A loader that takes its time for each batch."""

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        time.sleep(SLOW_SECONDS)
        rows = np.random.default_rng(first).integers(0, 50, (count, 17))
        return Batch(rows[:, :-1].copy(), rows[:, 1:].copy())

    def batch(self, step: int, rank: int, world: int, count: int) -> Batch:
        return self.rows(step, count, rank, world)


@pytest.mark.parametrize(("world", "metrics_steps", "waited"), [(1, 1, 0.25), (2, 1, 0.5), (1, 4, 0.25)])
def test_the_ranks_mean_wait_is_told_at_every_step(tmp_path: Path, world: int, metrics_steps: int, waited: float) -> None:
    told = Told()
    watch = Watch(metrics_steps=metrics_steps)
    pieces.stage(tmp_path, pieces.waiting, steps=6, world=world, tracker=told, watch=watch)
    assert [row["data_seconds"] for row in told.steps if "loss" in row] == [waited] * 6


def test_an_objective_that_does_not_measure_its_wait_reports_none_rather_than_0(tmp_path: Path) -> None:
    told = Told()
    pieces.stage(tmp_path, pieces.plain, steps=3, tracker=told)
    assert len(told.steps) >= 3 and not any("data_seconds" in row for row in told.steps)


def test_pretraining_and_fine_tuning_measure_theirs() -> None:
    state = TrainState.fresh(Transformer(pieces.MODEL).initialise(1), pieces.OPTIM)
    phase = TrainingPhase(Mix(weights={"a": 1.0}), 8 * 16, 8, 16, pieces.OPTIM, ConstantSchedule(kind="constant"), 100, 0)
    slow: Replay = Replay(SlowRows(), 2)  # type: ignore[arg-type]
    row = Rendered([3, 9, 20, 0], [False, False, True, True])
    for objective in (
        NextToken(state, SlowRows(), phase, micro_batch=2),
        SftObjective(state.model, [row], OfExamples(2, 1, 0), slow),
    ):
        began = time.perf_counter()
        waited = objective.backward(0, Ranks()).data_seconds
        assert SLOW_SECONDS <= waited < time.perf_counter() - began
    plain = SftObjective(state.model, [row], OfExamples(2, 1, 0)).backward(0, Ranks()).data_seconds
    assert 0 < plain < SLOW_SECONDS
    pairs = [RenderedPair(row, Rendered([3, 8, 0], [False, False, True]))]
    dpo = DpoObjective(state.model, pairs, reference_logprobs(state.model, pairs, Ranks()), DpoSettings(1, 5.0, 0.1), 0)
    assert math.isnan(dpo.backward(0, Ranks()).data_seconds)


def test_a_rank_whose_sums_another_one_reports_keeps_its_own_wait() -> None:
    assert Sums(2.0, 3.0, 4, {"rows": (1.0, 1.0)}, data_seconds=0.5).unsaid().data_seconds == 0.5


def _measure(state: TrainState, ranks: Ranks) -> dict[str, float]:
    time.sleep(0.02)
    return {"dev_bits_per_byte": 2.0 + state.step, "dev_bits_per_byte@novel": math.nan}


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_measured_on_the_way_is_told_once_at_its_step(tmp_path: Path, world: int) -> None:
    told = Told()
    pieces.stage(tmp_path, pieces.plain, steps=12, evaluator=_measure, world=world, tracker=told)
    costs = [metrics.pop("evaluation_seconds") for _, _, metrics in told.evaluations]
    assert told.evaluations == [("t", step, {"dev_bits_per_byte": 2.0 + step}) for step in (5, 10)]
    assert all(0.02 <= cost < 1.0 for cost in costs), "what training waited for"


SLOW_RANK_SECONDS = 0.1


class Uneven(pieces.Copying):
    """Rank 1 takes longer, half of it going forward."""

    def __init__(self, state: TrainState) -> None:
        super().__init__(state.model)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        time.sleep(SLOW_RANK_SECONDS * ranks.rank)
        sums = super().backward(step, ranks)
        with step_times.part(step_times.BACKWARD):
            time.sleep(SLOW_RANK_SECONDS / 2)
        return sums


def test_a_step_is_split_into_its_parts_and_the_slowest_rank_is_named(tmp_path: Path) -> None:
    told = Told()
    pieces.stage(tmp_path, Uneven, steps=6, world=2, tracker=told)
    rows = [row for row in told.steps if "loss" in row]
    slow = sorted(row["straggler_ratio"] for row in rows if row["slowest_rank"] == 1)
    assert len(slow) > len(rows) / 2 and slow[len(slow) // 2] > 1.2  # on a busy machine rank 0 may be slower now and then
    for row in rows[1:]:
        parts = {name: row[f"{name}_seconds"] for name in step_times.NAMES if f"{name}_seconds" in row}
        assert parts["backward"] >= SLOW_RANK_SECONDS / 2
        assert parts["optimizer"] > 0 and parts["forward"] > 0 and "sampling" not in parts
        assert 0.5 * row["step_seconds"] < sum(parts.values()) <= row["step_seconds"]
    assert sum(row["communication_seconds"] for row in rows) > len(rows) * SLOW_RANK_SECONDS / 4  # rank 0 waits for rank 1


def test_steps_made_before_a_kill_or_a_rollback_are_rework(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(pieces.Stop):
        pieces.stage(tmp_path, lambda state: pieces.StopAt(state.model, 23, poison=-1), tracker=told)
    assert not any("rework" in row for row in told.steps)
    told.steps.clear()
    pieces.stage(tmp_path, pieces.plain, tracker=told)
    rows = [row for row in told.steps if "loss" in row]
    assert [bool(row.get("rework")) for row in rows] == [True] * 3 + [False] * 7  # the last save was at 20, 23 were made


def test_the_guards_limits_are_told_once_it_has_some(tmp_path: Path) -> None:
    told = Told()
    pieces.stage(tmp_path, pieces.plain, steps=12, tracker=told)
    rows = [row for row in told.steps if "loss" in row]
    assert ["guard_loss_limit" in row for row in rows] == [False] * 8 + [True] * 4
    assert all(row["loss"] < row["guard_loss_limit"] for row in rows[8:])
