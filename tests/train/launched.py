"""What torchrun starts for test_launched.py: several rounds on every rank, each rank's outcomes in a file of its own."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lehr.distributed.rank_launcher import lead_or_follow
from lehr.distributed.ranks import Local, Ranks, run_ranks
from lehr.runtime import preemption
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.preemption import listening
from tests.train.listeners import listeners_on_rank

RANK = int(os.environ.get("RANK", "0"))


def gathered(ranks: Ranks, given: Local) -> list[Any]:
    """Every rank's place and what it was given."""
    tensor = torch.ones(2)
    ranks.sum_(tensor)
    return [*ranks.gather([ranks.rank, given.value]), tensor.tolist()]


def fails(ranks: Ranks, rank: int, how: str) -> None:
    """`rank` fails while the others wait for it in a sum."""
    if ranks.rank == rank:
        if how == "user":
            raise UserError("no such thing", where=f"rank {rank}", remedy="give another")
        if how == "bug":
            raise ValueError("nobody expected this")
        if how == "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "place")
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.sum_(torch.ones(2))


def _succeeds() -> list[Any]:
    """Two jobs in a round, one of them inside a further `together`, as a task inside of `lehr run` is."""
    assert RANK == 0, "work is rank 0's"
    first = run_ranks(2, 1, gathered, Local("mine", "yours"))
    return [first, lead_or_follow(lambda: run_ranks(2, 1, gathered, Local(1, 2)))]


def _loses_a_rank() -> None:
    with listening():
        preemption.defer()  # as training does: the launcher's SIGTERM comes while the reason is being found out
        run_ranks(2, 1, fails, 1, "killed")


def _refuses() -> None:
    raise UserError("a bad recipe", where="recipe.yaml", remedy="mend it")


ROUNDS: dict[str, Callable[[], Any]] = {
    "result": _succeeds,
    "user error before anything is sent": _refuses,
    "another number of ranks": lambda: run_ranks(3, 1, gathered, Local(1, 2)),
    "result again": _succeeds,
    "listeners": lambda: sorted(set(run_ranks(2, 1, listeners_on_rank))),
}

# In each of these a rank waits in a sum for one that does not come. Ranks end then: gloo aborts some that go on (seen once).
BROKEN: dict[str, Callable[[], Any]] = {
    "user": lambda: run_ranks(2, 1, fails, 1, "user"),
    "disk": lambda: run_ranks(2, 1, fails, 0, "disk"),
    "bug": lambda: run_ranks(2, 1, fails, 1, "bug"),
}


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return lead_or_follow(work)
    except (LehrError, OSError) as error:
        return [type(error).__name__, str(error).splitlines()[0]]


def main(folder: Path, how: str) -> int:
    if how == "killed":
        try:
            lead_or_follow(_loses_a_rank)
        except LehrError as error:
            (folder / f"rank-{RANK}.json").write_text(json.dumps([type(error).__name__, str(error)]))
            return error.exit_code
    outcomes = {name: _outcome(work) for name, work in ROUNDS.items()} if how == "well" else _outcome(BROKEN[how])
    (folder / f"rank-{RANK}.json").write_text(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
