"""Checkpoints of a training state: how long training waits."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from benchmarks.common import Record, compared, in_turns, main
from lehr.train.resume import ResumeFiles

_STATE = dict.fromkeys(("values", "first", "second"), (8333333,))  # 100 MB in fp32


def run() -> Sequence[Record]:
    """Milliseconds that training waits for a checkpoint of 100 MB: a plain copy, safetensors with fsync, and
    torch.distributed.checkpoint, against ours."""
    state = {name: torch.randn(shape) for name, shape in _STATE.items()}
    kept = {name: torch.empty_like(t) for name, t in state.items()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = ResumeFiles(folder / "resume")

        def ours() -> None:
            files.save(0, state, 0, lambda size: None)

        def copy() -> None:
            files.wait()  # the copy is measured alone, as ours is
            for name, tensor in state.items():
                kept[name].copy_(tensor)

        found = in_turns(
            {
                "wait": files.wait,
                "lehr": ours,
                "drain": files.wait,
                "copy": copy,
                "safetensors": lambda: save_file(state, folder / "plain"),
                "dcp": lambda: dcp.save(state, checkpoint_id=str(folder / "dcp"), no_dist=True),
            },
            turns=7,
        )
        files.wait()
    mine = found["lehr"] * 1000
    records = [
        ("copy", "a plain copy in memory"),
        ("safetensors", "safetensors, no fsync"),
        ("dcp", "torch.distributed.checkpoint"),
    ]
    return [
        compared("checkpoint", "training waits, 100 MB", mine, found[key] * 1000, name, "ms", less_is_better=True)
        for key, name in records
    ]


if __name__ == "__main__":
    sys.exit(main("checkpoint", run))
