"""A copy of the training state in host memory, from which threads write while training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class HostCopy:
    """Buffers by name, used again from one copy to the next; page-locked where the state is on a GPU."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def stage(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy `tensors`, and return the copies once they are complete. Buffers of names that are gone are freed."""
        self.tensors = {name: kept for name, kept in self.tensors.items() if name in tensors}
        for name, tensor in tensors.items():
            kept = self.tensors.get(name)
            if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self.tensors[name] = kept
            kept.copy_(tensor.detach(), non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the copies are asynchronous; the next step would overwrite their source
        return self.tensors
