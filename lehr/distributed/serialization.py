"""Plain values between ranks, as JSON and the tensors' bytes: what a rank receives is data and never code, unlike a pickle.

Supported are None, bool, int, float, str, lists, tuples, dicts with str keys, and CPU tensors, nested to any depth.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lehr.runtime.errors import Bug


def encoded(value: Any) -> Tensor:
    """`value` as uint8. Raises Bug for unsupported types."""
    tensors: list[Tensor] = []
    text = json.dumps(_marked(value, tensors)).encode()
    head = np.frombuffer(len(text).to_bytes(8, "little") + text, dtype=np.uint8).copy()
    return torch.cat([torch.from_numpy(head), *(t.contiguous().reshape(-1).view(torch.uint8) for t in tensors)])


def decoded(data: Tensor) -> Any:
    """The value from which `encoded` made `data`."""
    end = 8 + int.from_bytes(data[:8].numpy().tobytes(), "little")
    return _unmarked(json.loads(data[8:end].numpy().tobytes()), data, [end])


def _marked(value: Any, tensors: list[Tensor]) -> Any:
    """JSON's own types are kept; every other type becomes a dict with the type's name as its only key."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_marked(item, tensors) for item in value]
    if type(value) is tuple:
        return {"tuple": [_marked(item, tensors) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": [[key, _marked(item, tensors)] for key, item in value.items()]}
    if type(value) is Tensor and value.device.type == "cpu":
        tensors.append(value.detach())
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    raise Bug(f"a {type(value).__name__} cannot be sent between ranks")


def _unmarked(value: Any, data: Tensor, at: list[int]) -> Any:
    if isinstance(value, list):
        return [_unmarked(item, data, at) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tuple":
        return tuple(_unmarked(item, data, at) for item in inner)
    if kind == "dict":
        return {key: _unmarked(item, data, at) for key, item in inner}
    dtype, shape = getattr(torch, inner[0]), inner[1]
    out = torch.empty(shape, dtype=dtype)
    flat = out.view(-1).view(torch.uint8)
    flat.copy_(data[at[0] : at[0] + len(flat)])
    at[0] += len(flat)
    return out


def all_gathered(value: Any, world: int) -> list[Any]:
    """Every rank's `value`, in rank order, on every rank."""
    own = encoded(value)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(own)]))
    # all_gather needs equal sizes: pad to the longest.
    padded = torch.zeros(max(int(size) for size in sizes), dtype=torch.uint8)
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    return [decoded(part) for part in parts]
