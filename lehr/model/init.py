"""Initialisation of weights: every scheme of the four reports, as the standard deviation of each matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lehr.config.model import Model


def init_std(name: str, config: Model) -> float:
    """Standard deviation of matrix `name` under the scheme `config.init`.

    - normal: init_std everywhere (OLMo 2 section 3.2).
    - scaled: the same, but matrices that write to the residual stream are divided by sqrt(2 layers) (Stable LM 2, its code).
    - mitchell: 1/sqrt(d) for matrices that read the stream; 1/sqrt(2 d (l+1)) for the attention output and 1/sqrt(2 h (l+1))
      for the MLP output of layer l, with h the gated width (OLMo 1; conflict olmo1_init_out: as in its code).
    - mup: init_std / sqrt(m_width) inside the blocks, those that write to the stream also divided by sqrt(2 layers);
      embeddings at init_std (Granite 3.0 Table 2; IBM's engine).
    """
    parts = name.split(".")
    inside = parts[0] == "layers"
    writes = inside and parts[2:4] in (["attention", "out"], ["mlp", "down"])
    if config.init == "mitchell":
        fan = config.mlp_hidden if parts[2:4] == ["mlp", "down"] else config.d_model
        return 1 / math.sqrt(2 * fan * (int(parts[1]) + 1)) if writes else 1 / math.sqrt(config.d_model)
    std = config.init_std
    if config.init == "mup" and inside:
        std /= math.sqrt(config.width_multiplier)
    if config.init in ("scaled", "mup") and writes:
        std /= math.sqrt(2 * config.n_layers)
    return std


@torch.no_grad()
def initial_(tensor: Tensor, name: str, config: Model, generator: torch.Generator) -> None:
    """Fill parameter `name`: matrices from a normal truncated at 3 std, norm weights 1, biases 0. Call it in the model's order,
    which decides the draws."""
    if tensor.dim() > 1:
        truncated_normal_(tensor, init_std(name, config), generator)
    else:
        tensor.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """N(0, std) truncated at three standard deviations, by the inverse CDF: exactly one draw for each element, unlike rejection
    sampling, so the order of the calls alone decides the values."""
    low, high = math.erf(-3 / math.sqrt(2)), math.erf(3 / math.sqrt(2))
    u = torch.rand(weight.shape, generator=generator, dtype=torch.float64) * (high - low) + low
    weight.copy_(torch.erfinv(u) * math.sqrt(2) * std)
