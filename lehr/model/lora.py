"""Low-rank adapters (LoRA, Hu et al. 2021) on linear layers: y = x W^T + scale (x A^T) B^T with W frozen.

Shapes: N output width, K input width, R rank.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.lora import Lora
from lehr.model.transformer import Backbone
from lehr.runtime import seeds
from lehr.runtime.errors import UserError

ADAPTERS = ("lora_a", "lora_b")
M = TypeVar("M", bound=Backbone)


class LoraLinear(nn.Linear):
    """A linear layer that shares the tensors of `layer`, with an adapter beside them. B begins at zero, so that the layer
    begins as `layer`; A is uniform within 1 / sqrt(K), as in the authors' code."""

    def __init__(self, layer: nn.Linear, config: Lora, seed: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scale, self.active = config.alpha / config.rank, True
        drawn_RK = torch.rand(config.rank, self.in_features, generator=torch.Generator().manual_seed(seed))
        bound = 1 / math.sqrt(self.in_features)
        self.lora_a = nn.Parameter(((2 * drawn_RK - 1) * bound).to(layer.weight))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(self.out_features, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight, self.bias)
        return out + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale if self.active else out

    @torch.no_grad()
    def merged(self) -> Tensor:
        """W + scale B A, (N, K): the product is made in fp64, so that one rounding is all that merging costs."""
        if not self.active:
            return self.weight
        update_NK = self.scale * (self.lora_b.double() @ self.lora_a.double())
        return (self.weight.double() + update_NK).to(self.weight.dtype)


def adapt(model: M, config: Lora, seed: int) -> M:
    """Put adapters on the targets of `model`, in place, and freeze all else but a scalar head. Raises UserError for a target
    that the model does not have."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "score.weight")
    found = set()
    for name, module in list(model.named_modules()):
        for own, layer in list(module.named_children()):
            if own in config.targets and type(layer) is nn.Linear:
                setattr(module, own, LoraLinear(layer, config, seeds.derive(seed, "lora", f"{name}.{own}")))
                found.add(own)
    if missing := [target for target in config.targets if target not in found]:
        what = f"lora.targets: the model has no linear layer {', '.join(missing)}"
        raise UserError(what, remedy="experts have no adapters: leave gate_up and down out")
    return model


def adapted(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return any(isinstance(module, LoraLinear) for module in model.modules())


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights by name as a model without adapters has them: those of adapted layers merged."""
    merged = {f"{name}.weight": m.merged() for name, m in model.named_modules() if isinstance(m, LoraLinear)}
    named = {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] not in ADAPTERS}
    return {name: merged.get(name, p.detach()) for name, p in named.items()}


def base_of(model: M) -> M:
    """The model as it was before its adapters. It shares every tensor with `model`, so that a reference costs no memory."""
    twin = copy.copy(model)
    twin._modules = {name: None if child is None else _without(child) for name, child in model._modules.items()}
    return twin


def _without(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    if isinstance(twin, LoraLinear):
        twin.active = False
    twin._modules = {name: None if child is None else _without(child) for name, child in module._modules.items()}
    return twin
