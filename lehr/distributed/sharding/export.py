"""From a sharded save to the files of an ordinary checkpoint, which later stages read, one parameter in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lehr.artifacts.tensors import stream_tensors
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.distributed.sharding.sharded_state import flat_order
from lehr.distributed.sharding.storage import Manifest
from lehr.train.checkpointing.checkpoint import OPTIMIZER, WEIGHTS


def consolidate(manifest: Manifest, config: Model, optim: Optim, folder: Path) -> None:
    """Write the weights by name, and the optimiser state in the flat layout, as `train/checkpointing` reads them."""
    order = flat_order(config, optim)
    shapes = dict(sorted(order))
    layout = {name: (torch.float32, shape) for name, shape in shapes.items()}
    stream_tensors(folder / WEIGHTS, layout, (manifest.read_whole(f"values.{name}") for name in shapes))
    size = sum(torch.Size(shape).numel() for shape in shapes.values())
    flat = {"updates": (torch.int64, ()), "first": (torch.float32, (size,)), "second": (torch.float32, (size,))}

    def parts() -> Iterator[Tensor]:
        yield torch.tensor(int(manifest.facts["updates"]))
        for kind in ("first", "second"):
            for name, _ in order:
                yield manifest.read_whole(f"{kind}.{name}")

    stream_tensors(folder / OPTIMIZER, flat, parts())
