"""Sharded saves are written beside the training: it waits for one copy, and hears of a write that failed."""

from __future__ import annotations

import errno
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lehr.artifacts.tensors import save_tensors
from lehr.config.parallel import Parallel
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.distributed.sharding import storage
from lehr.distributed.sharding.init import init_sharded
from lehr.distributed.sharding.saves import ShardedSaves
from lehr.distributed.sharding.sharded_state import sharded_state
from lehr.train.state import Restored, TrainState
from tests.distributed.cases import MODELS, OPTIM

WRITING_SECONDS = 1.0


def _weights(state: TrainState) -> list[torch.Tensor]:
    return [chunk.tensor for slices in sharded_state(state).slices().values() for chunk in slices.chunks]


def saves_on_rank(ranks: Ranks, folder: Path) -> list[float]:
    """(seconds that `save` took, seconds of sums over ranks meanwhile, seconds of `wait`) where rank 1 writes slowly."""
    state = init_sharded(ranks, Parallel(processes=2, layout="fsdp"), MODELS["olmo2"], OPTIM, torch.float32, 1).state
    saves = ShardedSaves(folder, ranks, "fsdp x2")
    saves.write(folder / "first", state)  # buffers are made once
    write, storage.save_tensors = storage.save_tensors, _slowly if ranks.rank == 1 else storage.save_tensors
    state.step = 4
    held = {"finished_B": torch.tensor([True, False]), "tokens_BT": torch.arange(6).view(2, 3), "step": torch.tensor(2)}
    state.rollout, state.carried = Restored(held), {"kl": torch.tensor(0.05)}
    before = [tensor.clone() for tensor in _weights(state)]
    marks = [time.perf_counter()]
    saves.save(state, 0, lambda size: None)
    marks.append(time.perf_counter())
    for tensor in _weights(state):  # the next step changes everything, and talks
        tensor.add_(1.0)
    ranks.sum_(torch.ones(10))
    marks.append(time.perf_counter())
    saves.wait()
    marks.append(time.perf_counter())
    storage.save_tensors = write
    state.rollout, state.carried = None, {}
    assert saves.restore(state) == 0
    assert state.rollout is not None and state.carried["kl"] == torch.tensor(0.05)
    assert all(torch.equal(state.rollout.tensors()[name], tensor) for name, tensor in held.items())
    assert all(torch.equal(a, b) for a, b in zip(_weights(state), before, strict=True))
    return [b - a for a, b in pairwise(marks)]


def _slowly(tensors: dict[str, torch.Tensor], path: Path) -> None:
    time.sleep(WRITING_SECONDS)
    save_tensors(tensors, path)


def fails_on_rank(ranks: Ranks, folder: Path) -> list[str]:
    """What each rank hears of a full disk under rank 1, and which saves there are then."""
    state = init_sharded(ranks, Parallel(processes=2, layout="fsdp"), MODELS["olmo2"], OPTIM, torch.float32, 1).state
    saves = ShardedSaves(folder, ranks, "fsdp x2")
    saves.save(state, 0, lambda size: None)
    saves.wait()
    if ranks.rank == 1:
        storage.save_tensors = _full_disk
    state.step = 4
    saves.save(state, 0, lambda size: None)
    heard = "nothing"
    try:
        saves.wait()
    except OSError as error:
        heard = f"OSError {error.errno}"
    ranks.gather(None)
    return [*ranks.gather(heard), *sorted(manifest.parent.name for manifest in folder.glob("*/manifest.json"))]


def _full_disk(tensors: dict[str, torch.Tensor], path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.long
def test_training_waits_for_a_copy_and_what_it_does_then_is_not_saved(tmp_path: Path) -> None:
    saving, training, waiting = run_ranks(2, 1, saves_on_rank, tmp_path)
    assert saving + training < 0.7 * WRITING_SECONDS
    assert waiting > 0.3 * WRITING_SECONDS


def test_a_write_that_failed_is_heard_by_every_rank_and_completes_nothing(tmp_path: Path) -> None:
    full = f"OSError {errno.ENOSPC}"
    assert run_ranks(2, 1, fails_on_rank, tmp_path) == [full, full, "sharded-00000000-1"]
