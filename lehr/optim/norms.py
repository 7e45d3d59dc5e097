"""The 2-norm of flat tensors with many elements."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_PIECE = 1 << 16


def norm(flat: Tensor) -> Tensor:
    """The 2-norm of a one-dimensional fp32 tensor, as a scalar tensor, to seven digits whatever its size.

    On a CPU Tensor.norm adds squares up in too few partial sums: of normal numbers it is 0.01 % too small at 5 million,
    0.4 % at 50 million, 3 % at 200 million, and a norm that is too small clips too little. Pieces cost next to nothing. GPUs
    reduce in a tree.
    """
    return flat.norm() if flat.device.type != "cpu" else nn.utils.get_total_norm(torch.split(flat, _PIECE))
