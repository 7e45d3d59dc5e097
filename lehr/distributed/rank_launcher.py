"""Work under a launcher: rank 0 leads, the other ranks follow. Importing this module does not load torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lehr.runtime.rank_environment import launched

T = TypeVar("T")


def lead_or_follow(work: Callable[[], T]) -> T:
    """`work()`, which under a launcher only rank 0 calls: every rank calls this function, and the others follow. They run what
    rank 0 sends (see lehr.distributed.ranks.run_ranks), return what `work` returned there, and raise what it raised.

    Nested inside `work` it is a plain call.
    """
    if not launched():
        return work()
    from lehr.distributed.process_group import run_as_group

    return run_as_group(work)
