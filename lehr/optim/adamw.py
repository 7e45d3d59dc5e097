"""AdamW on flat buffers: the clip, the moments and the update are a handful of kernels, whatever the layer count."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lehr.config.stages import Optim


class FlatParameters:
    """A model's parameters and gradients as flat fp32 buffers, `values` and `grads`.

    At `dtype` fp32 the model's own tensors are views of them. At bf16 the model computes in bf16 working copies (views of
    `work` and `work_grads`), while the optimiser keeps and updates fp32 masters: after each backward pass `collect` adds
    the working gradients to the fp32 ones, after each update `publish` rounds the masters into the working copies.

    Parameters that weight decay touches come first: `values[:decayed]`. OLMo 2 exempts the embeddings and nothing else
    (section 3.3.1: decaying them shrinks early activations and lets gradients grow); norms and the head are decayed.
    `order` lists the names in buffer order, so that optimiser state read from a file can be checked against it.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        named = list(model.named_parameters())
        decayed = [(n, p) for n, p in named if not is_embedding(n)]
        exempt = [(n, p) for n, p in named if is_embedding(n)]
        self.order = [(n, tuple(p.shape)) for n, p in decayed + exempt]
        self.decayed = sum(p.numel() for _, p in decayed)
        size = sum(p.numel() for _, p in named)
        device = named[0][1].device
        self.values = torch.empty(size, dtype=torch.float32, device=device)
        self.grads = torch.zeros(size, dtype=torch.float32, device=device)
        self.work, self.work_grads = self.values, self.grads
        if dtype != torch.float32:
            self.work, self.work_grads = self.values.to(dtype), self.grads.to(dtype)
        start = 0
        for _, parameter in decayed + exempt:
            end = start + parameter.numel()
            self.values[start:end] = parameter.detach().reshape(-1)
            parameter.data = self.work[start:end].view(parameter.shape)
            parameter.grad = self.work_grads[start:end].view(parameter.shape)  # autograd adds into it in place
            start = end
        self.publish()

    def collect(self) -> None:
        """Add what a backward pass left in the working gradients to the fp32 ones."""
        if self.work_grads is not self.grads:
            self.grads.add_(self.work_grads)
            self.work_grads.zero_()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the fp32 masters into the working copies."""
        if self.work is not self.values:
            self.work.copy_(self.values)

    def masters(self) -> dict[str, Tensor]:
        """The fp32 parameters by name: views of `values`."""
        out, start = {}, 0
        for name, shape in self.order:
            end = start + math.prod(shape)
            out[name] = self.values[start:end].view(shape)
            start = end
        return out


def is_embedding(name: str) -> bool:
    """Whether a parameter name is of the input embedding, which weight decay leaves alone."""
    return name.split(".")[-2:] == ["embed", "weight"]


class AdamW:
    """Decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected moments: equal to torch.optim.AdamW.

    State is `first` and `second`, flat fp32 like the parameters, and `updates`, the count of updates really made.
    """

    def __init__(self, flat: FlatParameters, config: Optim) -> None:
        self.flat, self.config = flat, config
        self.first, self.second = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
        self.updates = 0

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """One update from `flat.grads` with learning rate `lr`."""
        beta1, beta2 = self.config.betas
        self.updates += 1
        values, grads = self.flat.values, self.flat.grads
        self.first.lerp_(grads, 1 - beta1)
        self.second.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        denominator = self.second.sqrt().div_((1 - beta2**self.updates) ** 0.5).add_(self.config.eps)
        values[: self.flat.decayed].mul_(1 - lr * self.config.weight_decay)
        values.addcdiv_(self.first, denominator, value=-lr / (1 - beta1**self.updates))
        self.flat.publish()


@torch.no_grad()
def clip_(grads: Tensor, limit: float) -> float:
    """Scale flat gradients in place so that their global 2-norm is at most `limit`; returns the norm before."""
    norm = float(grads.norm())
    if norm > limit:
        grads.mul_(limit / norm)
    return norm
