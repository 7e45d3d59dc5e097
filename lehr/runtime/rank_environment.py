"""Ranks started by a launcher, torchrun or Flyte's Elastic task: which one this process is, by its environment variables."""

from __future__ import annotations

import os
import time

from lehr.runtime.environment import whole
from lehr.runtime.errors import UserError

_GIVE_WAY_SECONDS = 10.0  # for rank 0 to write its termination message


def launched() -> bool:
    """Whether a launcher started this process as one of several ranks."""
    return "TORCHELASTIC_RUN_ID" in os.environ and whole("WORLD_SIZE", 1, least=1) > 1


def follows() -> bool:
    """Whether this process is such a rank and not rank 0."""
    return launched() and whole("RANK", 0) > 0


def yield_to_leader() -> None:
    """For a rank that is about to end with rank 0's error: let rank 0 end first. The launcher ends all ranks when one has
    ended, and would interrupt rank 0 while it writes its termination message."""
    if follows():
        time.sleep(_GIVE_WAY_SECONDS)


def hosts() -> int:
    """The number of hosts on which the launcher started ranks."""
    return whole("GROUP_WORLD_SIZE", 1, least=1) if launched() else 1


def on_other_host() -> bool:
    """Whether this host is not rank 0's."""
    return hosts() > 1 and os.environ.get("GROUP_RANK", "0") != "0"


def check_world(processes: int) -> None:
    """Raises UserError if the launcher's number of ranks differs from the recipe's `processes`."""
    if launched() and (found := whole("WORLD_SIZE", 1)) != processes:
        raise UserError(
            f"the launcher started {found} ranks, the recipe asks for {processes}",
            where=f"parallel.processes={processes}",
            remedy=f"start {processes} ranks, or set parallel.processes={found}",
        )
