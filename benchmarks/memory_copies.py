"""Copies of the training state in memory: how long training waits, until a copy is made, and how long reading takes."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.common import Record, compared, main
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.distributed.machines import Machines
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.distributed.sharding.init import init_sharded
from lehr.distributed.sharding.saves import ShardedSaves
from lehr.runtime.ports import OnlyAttempt
from lehr.train.checkpointing.copied_saves import CopiedSaves
from lehr.train.checkpointing.host_copy import HostCopy
from lehr.train.checkpointing.memory_copies import Crew

_TURNS, _WARM = 3, 1
_MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
_MODEL = Model(vocab_size=8192, d_model=640, n_layers=8, n_heads=10, n_kv_heads=10, mlp_hidden=1728, max_seq_len=512)
_said: list[str] = []


class _Attempt(OnlyAttempt):
    work = "benchmark"


def run() -> Sequence[Record]:
    """Two ranks of FSDP, each taken for a machine, with the state of 50M parameters (300 MB each): a copy against a plain one
    in memory and a save, and reading it against reading a save from a folder of this machine (in the page cache)."""
    warnings.filterwarnings("ignore", module="torch.distributed")
    with tempfile.TemporaryDirectory(dir=_MEMORY) as memory, tempfile.TemporaryDirectory() as disk:
        found = run_ranks(2, 1, _measured, Path(memory), Path(disk))
    size, made = found.pop("MB"), found.pop("made")
    _said.append(
        f"A copy of {size:.0f} MB is made {made:.2f} s after training went on: written, hashed, sent to the other rank over "
        "loopback and hashed there, on the cores that the ranks compute on. Each machine's memory then holds "
        f"{4 * size:.0f} MB for each of its ranks: two generations of its own part and of its peer's. The save lies in this "
        "machine's page cache, which no store is faster than.\n"
    )
    waits, reads = f"training waits, {size:.0f} MB a rank", f"reading, {size:.0f} MB a rank"
    ms = {name: 1000 * seconds for name, seconds in found.items()}
    how = {"unit": "ms", "less_is_better": True}
    return [
        compared("memory_copies", waits, ms["copy"], ms["plain"], "a plain copy in memory", target=0.667, **how),  # type: ignore[arg-type]
        compared("memory_copies", waits, ms["copy"], ms["save"], "a save", target=0.667, **how),  # type: ignore[arg-type]
        compared("memory_copies", reads, ms["read"], ms["store"], "the same from a save on disk", target=0.5, **how),  # type: ignore[arg-type]
        compared(
            "memory_copies", f"{reads}, one memory lost", ms["lost"], ms["store"], "from a save on disk", target=0.5, **how
        ),  # type: ignore[arg-type]
    ]


def _measured(ranks: Ranks, memory: Path, disk: Path) -> dict[str, float]:
    """Median seconds of the slower rank."""
    parallel = Parallel(processes=2, layout="fsdp")
    state = init_sharded(ranks, parallel, _MODEL, Optim(lr=1e-3), torch.float32, 0).state
    inner = ShardedSaves(disk, ranks, parallel.described)
    crew = Crew(ranks, Machines(ranks.rank, ((0, 0), (1, 0))), whole=False)
    saves = CopiedSaves(inner, crew, _Attempt(), (memory / str(ranks.rank), parallel.described, None), _quiet)
    plain, part = HostCopy(), inner.part(state)
    size = sum(tensor.numel() * tensor.element_size() for tensor in part.values()) / 1e6

    def lose() -> None:
        if ranks.rank == 1:
            shutil.rmtree(memory / "1")

    def newest() -> None:
        found = saves.reader.newest()
        assert found is not None
        tensors = saves.reader.fetch(found)
        assert tensors is not None
        inner.restore_part(state, tensors)

    state.step = 1
    times: dict[str, list[float]] = {}
    steps: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("copy", _nothing, lambda: saves.copy(state, 0)),
        ("made", _nothing, saves.maker.wait),
        ("plain", _nothing, lambda: plain.stage(part)),
        ("save", _nothing, lambda: inner.save(state, 0, _ignored)),
        ("saved", _nothing, inner.wait),
        ("read", _nothing, newest),
        ("lost", lose, newest),
        ("store", _nothing, lambda: inner.restore(state)),
    ]
    for turn in range(_TURNS + _WARM):
        state.step += 1
        for name, before, act in steps:
            before()
            ranks.gather(None)
            began = time.perf_counter()
            act()
            took = max(ranks.gather(time.perf_counter() - began))
            times.setdefault(name, []).extend([took] if turn >= _WARM else [])
    return {"MB": size, **{name: statistics.median(its) for name, its in times.items()}}


def _nothing() -> None:
    """Nothing happens before it."""


def _ignored(size: int) -> None:
    """What a save has written is not asked."""


def _quiet(text: str) -> None:
    """Nothing is noted."""


if __name__ == "__main__":
    sys.exit(main("memory_copies", run, lambda: "".join(_said)))
