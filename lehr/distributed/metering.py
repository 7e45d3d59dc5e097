"""The energy of a launcher's other machines while they work for a stage: the first rank of each counts it, for the ledger of
that stage's attempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lehr.artifacts.ledger_writer import LedgerWriter
from lehr.runtime.energy import Power
from lehr.runtime.ports import SystemClock

_last: LedgerWriter | None = None  # of this process's latest piece of work


@contextmanager
def metered(arguments: Sequence[Any]) -> Iterator[None]:
    """Count what this rank must count for the attempt that one of `arguments` belongs to: a RankContext, or something that has
    one. Nothing where there is none, and where another rank of this machine counts."""
    global _last
    contexts = (getattr(argument, "context", argument) for argument in arguments)
    context = next((one for one in contexts if hasattr(one, "power") and hasattr(one, "fencing")), None)
    power: Power | None = context.power.on_rank() if context is not None else None
    if context is None or power is None:
        yield
        return
    if _last is None or (_last.scratch, _last.fencing.number) != (context.scratch, context.fencing.number):
        _last = LedgerWriter(power, SystemClock(), context.scratch, context.fencing, _last)
    _last.resume(announce=True)
    try:
        yield
    finally:
        _last.end()
