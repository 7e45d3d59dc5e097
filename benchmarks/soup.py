"""Soups of three checkpoints: blocks read side by side against loading all and averaging."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.artifacts.artifact import Artifact, Cost
from lehr.post.merging import average

_TENSORS, _SHAPE = 12, (2048, 2048)  # 201 MB a checkpoint


def _ingredient(folder: Path, seed: int) -> Artifact:
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    save_file({f"t{i}": torch.randn(_SHAPE, generator=generator) for i in range(_TENSORS)}, folder / "model.safetensors")
    return Artifact.seal(
        folder, kind="checkpoint", stage=f"s{seed}", fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )


def run() -> Sequence[Record]:
    """Seconds to average three checkpoints of 201 MB in fp32, from files to a file."""
    with tempfile.TemporaryDirectory() as place:
        parts = [_ingredient(Path(place) / str(i), i) for i in range(3)]

        def plain() -> None:
            states = [load_file(p.path("model.safetensors")) for p in parts]
            save_file({n: torch.stack([s[n] for s in states]).mean(0) for n in states[0]}, Path(place) / "plain")

        found = in_turns({LEHR: lambda: average(parts, Path(place) / "ours"), "load all, average": plain}, turns=5, warm=1)
    note = "memory: 1 MiB a file against all four states"
    mine = found.pop(LEHR)
    return [compared("soup", "3 x 201 MB", mine, s, name, "s", less_is_better=True, note=note) for name, s in found.items()]


if __name__ == "__main__":
    sys.exit(main("soup", run))
