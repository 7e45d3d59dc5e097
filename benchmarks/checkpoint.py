"""Checkpoints of a training state: how long training waits, whole and sharded."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.init import init_sharded
from lehr.distributed.sharding.saves import ShardedSaves
from lehr.train.checkpointing.resume_state import ResumeFiles

_STATE = dict.fromkeys(("values", "first", "second"), (8333333,))  # 100 MB in fp32
_COPY = "a plain copy in memory"


def run() -> Sequence[Record]:
    """Milliseconds that training waits for a checkpoint: whole (100 MB) and sharded (15M parameters, one rank of FSDP), against
    a plain copy of the same state, safetensors and torch.distributed.checkpoint."""
    warnings.filterwarnings("ignore", module="torch.distributed")
    with tempfile.TemporaryDirectory() as place:
        return [*whole(Path(place)), *sharded(Path(place))]


def whole(folder: Path) -> list[Record]:
    """ResumeFiles: the layout in which every rank holds everything."""
    state = {name: torch.randn(shape) for name, shape in _STATE.items()}
    files = ResumeFiles(folder / "resume")
    found = in_turns(
        {
            "wait": files.wait,
            LEHR: lambda: files.save(0, state, 0, lambda size: None),
            "drain": files.wait,  # the copy is measured alone, as ours is
            _COPY: _copies(state),
            "safetensors, no fsync": lambda: save_file(state, folder / "plain"),
            "torch.distributed.checkpoint": lambda: dcp.save(state, checkpoint_id=str(folder / "dcp"), no_dist=True),
        },
        turns=15,
    )
    files.wait()
    return _records("training waits, 100 MB", found)


def sharded(folder: Path) -> list[Record]:
    """ShardedSaves: values and both moments of an FSDP rank that holds all shards, against PyTorch's own asynchronous save."""
    with _one_rank(folder):
        # a recipe must give such a layout several processes; what one rank waits for does not depend on how many there are
        parallel, ranks = Parallel.model_construct(layout="fsdp"), Ranks()
        state = init_sharded(ranks, parallel, models.config("15M"), Optim(lr=1e-3), torch.bfloat16, 0).state
        saves = ShardedSaves(folder / "sharded", ranks, parallel.described)
        numel = sum(p.numel() for p in state.model.parameters())
        same = {name: torch.randn(numel) for name in ("values", "first", "second")}
        found = in_turns(
            {
                "wait": saves.wait,
                LEHR: lambda: saves.save(state, 0, lambda size: None),
                "drain": saves.wait,
                _COPY: _copies(same),
                "torch.distributed.checkpoint": lambda: dcp.save(same, checkpoint_id=str(folder / "dcp2")),
            },
            turns=9,
        )
        saves.wait()
    return _records(f"training waits, sharded, {12 * numel / 1e6:.0f} MB", found)


def _copies(state: dict[str, Tensor]) -> Callable[[], None]:
    kept = {name: torch.empty_like(t) for name, t in state.items()}

    def copy() -> None:
        for name, tensor in state.items():
            kept[name].copy_(tensor)

    return copy


def _records(case: str, found: dict[str, float]) -> list[Record]:
    """Of a copy, 1.5 times its time is allowed."""
    mine = found.pop(LEHR) * 1000
    return [
        compared("checkpoint", case, mine, s * 1000, name, "ms", less_is_better=True, target=0.667 if name == _COPY else 1.0)
        for name, s in found.items()
        if name not in ("wait", "drain")
    ]


@contextmanager
def _one_rank(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main("checkpoint", run))
