"""Ranks that somebody else started, torchrun or Flyte's Elastic task: which one this process is. Loads no torch by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from lehr.runtime.environment import whole
from lehr.runtime.errors import UserError

T = TypeVar("T")
_GIVE_WAY_SECONDS = 10.0


def launched() -> bool:
    """Whether a launcher started this process as one of several ranks."""
    return "TORCHELASTIC_RUN_ID" in os.environ and whole("WORLD_SIZE", 1, least=1) > 1


def follows() -> bool:
    """Whether this process is such a rank, and not the first."""
    return launched() and whole("RANK", 0) > 0


def give_way() -> None:
    """For a rank that is about to end with rank 0's error. Rank 0 ends first, or the launcher would end it in the middle of its
    last words; then the launcher ends this one."""
    if follows():
        time.sleep(_GIVE_WAY_SECONDS)


def machines() -> int:
    """On how many machines the launcher started ranks."""
    return whole("GROUP_WORLD_SIZE", 1, least=1) if launched() else 1


def away() -> bool:
    """Whether this machine is another than rank 0's."""
    return machines() > 1 and os.environ.get("GROUP_RANK", "0") != "0"


def check_world(processes: int) -> None:
    """Raises UserError if a launcher started another number of ranks than the recipe's `processes`."""
    if launched() and (found := whole("WORLD_SIZE", 1)) != processes:
        raise UserError(
            f"the launcher started {found} ranks, the recipe asks for {processes}",
            where=f"parallel.processes={processes}",
            remedy=f"start {processes} ranks, or set parallel.processes={found}",
        )


def together(work: Callable[[], T]) -> T:
    """`work()`, which under a launcher is rank 0's alone: every rank calls this, the others follow. They do what rank 0 sends
    (see lehr.distributed.ranks.run_ranks), return what `work` returned there, and raise what it raised.

    Inside of `work` it is a plain call.
    """
    if not launched():
        return work()
    from lehr.distributed.process_group import keep_company

    return keep_company(work)
