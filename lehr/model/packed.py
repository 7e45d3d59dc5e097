"""Weights laid out once for many small matrix products: decoding on a CPU reads every weight for only a few rows.

Shapes: N output width, K input width, R rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lehr.model.lora import LoraLinear
from lehr.model.moe import Experts
from lehr.model.transformer import Transformer

_WORTH_STEPS = 16  # packing costs about as much as three decoding steps
_MOST_PARAMETERS = 2_000_000_000  # packed weights are held in addition to the plain ones


class PackedLinear(nn.Module):
    """x W^T + b with W, (N, K), in oneDNN's blocked layout, tuned for `rows` rows but correct for any number. No gradient.

    A single row in fp32 uses a plain W^T: adding up its rows reads memory sequentially and takes two thirds of the time.
    """

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, rows: int) -> None:
        super().__init__()
        self.bias = bias_N
        self.weight_KN = weight_NK.detach().t().contiguous() if rows == 1 and weight_NK.dtype == torch.float32 else None
        if self.weight_KN is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK.detach(), rows)
        self.product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise

    def forward(self, x: Tensor) -> Tensor:
        if self.weight_KN is None:
            return self.product(x, self.packed, self.bias, "none", [], "")
        x_RK = x.reshape(-1, x.shape[-1])
        out_RN = x_RK @ self.weight_KN if self.bias is None else torch.addmm(self.bias, x_RK, self.weight_KN)
        return out_RN.view(*x.shape[:-1], -1)


def packed(model: Transformer, rows: int, steps: int) -> Transformer:
    """A copy of `model` for decoding about `steps` steps of `rows` rows: its matrices are packed copies, everything else is
    shared. Returns `model` itself if that would not pay or is not possible. Later updates of `model` do not reach the copy."""
    weight = model.embed.weight
    if steps < _WORTH_STEPS or weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return model
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return model
    if weight.dtype not in (torch.float32, torch.bfloat16) or sum(p.numel() for p in model.parameters()) > _MOST_PARAMETERS:
        return model
    twin = _twin(model, rows)
    assert isinstance(twin, Transformer)
    if twin.head is None:
        twin.head = PackedLinear(weight, None, rows)  # type: ignore[assignment]
    return twin


def _twin(module: nn.Module, rows: int) -> nn.Module:
    if isinstance(module, nn.Linear):
        weight_NK = module.merged() if isinstance(module, LoraLinear) else module.weight
        return PackedLinear(weight_NK, module.bias, rows)
    if isinstance(module, (nn.Embedding, Experts)):  # looked up by row, and multiplied by groups of rows: no linear layers
        return module
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else _twin(child, rows) for name, child in module._modules.items()}
    return twin
