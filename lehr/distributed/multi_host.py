"""Ranks on machines that share no folder: each uses paths of its own, and rank 0's machine sends its saves to the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from lehr.distributed.host_paths import separate_folders
from lehr.distributed.ranks import Ranks
from lehr.runtime.ports import REMOTE, FencingToken
from lehr.runtime.rank_environment import on_other_host

_PIECE = 16 << 20  # bytes in one broadcast: bounds the buffer on every rank


@contextmanager
def mirrored(folder: Path, ranks: Ranks, fencing: FencingToken) -> Iterator[None]:
    """While inside, every machine has the files that `folder` holds on rank 0's, if the machines share no folder. A collective:
    every rank calls it. The files come through the process group, since not all of rank 0's saves have reached the store."""
    if not separate_folders(fencing):
        yield
        return
    files: list[tuple[str, int]] = []
    if ranks.first:
        fencing.bring(folder)
        found = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".tmp", REMOTE))
        files = [(p.relative_to(folder).as_posix(), p.stat().st_size) for p in found]
    writes = on_other_host() and os.environ.get("LOCAL_RANK", "0") == "0"  # one rank of each other machine
    if writes:
        shutil.rmtree(folder, ignore_errors=True)
    for name, size in ranks.gather(files)[0]:
        _send(folder / name, size, ranks.first, writes)
    ranks.gather(None)  # a barrier: no rank reads before the files are complete ...
    yield
    ranks.gather(None)  # ... and none is deleted while a rank reads
    if writes:
        shutil.rmtree(folder, ignore_errors=True)


def _send(path: Path, size: int, reads: bool, writes: bool) -> None:
    if writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for start in range(0, size, _PIECE):
        piece = torch.empty(min(_PIECE, size - start), dtype=torch.uint8)
        if reads:
            with path.open("rb") as file:
                file.seek(start)
                file.readinto(piece.numpy().data)
        dist.broadcast(piece, src=0)
        if writes:
            with path.open("ab") as file:
                file.write(piece.numpy().data)
