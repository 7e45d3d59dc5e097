"""How a freshly initialised model carries signal through its depth: the growth exponents of OLMo 2 section 3.2.

Shapes: B documents at once, T positions, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lehr.config.model import Model
from lehr.model.transformer import Transformer
from lehr.train.losses import cross_entropy

_ROWS = 8  # documents at once


@dataclass(frozen=True)
class Growth:
    """One model at initialisation. Exponents are (1/layers) ln(norm at the last layer / norm at the first); near 0 the
    scale is kept. Norms are those at the last layer (activations) and the first (gradients): where each flow ends."""

    scheme: str
    width: int
    activation_exponent: float
    gradient_exponent: float
    activation_norm: float
    gradient_norm: float


def schemes(layers: int, width: int, length: int, vocab_size: int) -> dict[str, Model]:
    """The comparison of section 3.2 at one width: OLMo 0424 and OLMo 2, each with its own initialisation and the other's.

    Heads of 64 dimensions (of the whole width where it is smaller), a gated MLP of 8/3 widths.
    """
    heads = max(1, width // 64)
    sizes = {"vocab_size": vocab_size, "n_layers": layers, "d_model": width, "n_heads": heads, "n_kv_heads": heads}
    sizes |= {"mlp_hidden": 8 * width // 3 // 8 * 8, "max_seq_len": length}
    old = {"family": "olmo", "clip_qkv": 8.0, **sizes}
    new = {"family": "olmo2", **sizes}
    return {
        "OLMo 0424": Model.model_validate(old),
        "OLMo 0424, new init": Model.model_validate({**old, "init": "normal", "init_std": 0.02}),
        "OLMo 2, old init": Model.model_validate({**new, "init": "mitchell"}),
        "OLMo 2": Model.model_validate(new),
    }


def growth(scheme: str, config: Model, documents: Sequence[Tensor], seed: int) -> Growth:
    """Measure a model of `config` on `documents`, each a tensor of at least T + 1 token ids, T = config.max_seq_len.

    Activations and the loss's gradients with respect to them are taken behind the first and behind the last block and
    averaged over documents and positions into vectors v and v' of length D (section 3.2).
    """
    model = Transformer(config).initialise(seed)
    model.requires_grad_(False)
    first, last = _Mean(config.d_model), _Mean(config.d_model)
    first_gradient, last_gradient = _Mean(config.d_model), _Mean(config.d_model)
    for tokens_BT1 in _batches(documents, config.max_seq_len):
        kept: list[Tensor] = []
        hooks = [model.layers[i].register_forward_hook(_keeper(kept)) for i in sorted({0, config.n_layers - 1})]
        embedding = model.embed.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
        ce = cross_entropy(model, tokens_BT1[:, :-1], tokens_BT1[:, 1:], with_z=False)
        for hook in (*hooks, embedding):
            hook.remove()
        gradients = torch.autograd.grad(ce.nats / ce.tokens, [kept[0], kept[-1]])
        first.add(kept[0])
        last.add(kept[-1])
        first_gradient.add(gradients[0])
        last_gradient.add(gradients[1])
    rise = math.log(last.norm() / first.norm()) / config.n_layers
    # Gradients flow downwards; the exponent keeps the report's direction, last over first.
    fall = math.log(last_gradient.norm() / first_gradient.norm()) / config.n_layers
    return Growth(scheme, config.d_model, rise, fall, last.norm(), first_gradient.norm())


class _Mean:
    """Mean over all documents and positions of vectors of one width."""

    def __init__(self, width: int) -> None:
        self.total, self.count = torch.zeros(width, dtype=torch.float64), 0

    def add(self, x_BTD: Tensor) -> None:
        self.total += x_BTD.detach().double().sum(dim=(0, 1))
        self.count += x_BTD.shape[0] * x_BTD.shape[1]

    def norm(self) -> float:
        return float((self.total / self.count).norm())


def _keeper(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        kept.append(output)

    return keep


def _batches(documents: Sequence[Tensor], length: int) -> Iterator[Tensor]:
    for start in range(0, len(documents), _ROWS):
        yield torch.stack([d[: length + 1] for d in documents[start : start + _ROWS]])


def sqrt_width_correlation(found: Sequence[Growth], of: str) -> float:
    """Pearson correlation of a norm (`activation_norm` or `gradient_norm`) with sqrt(width): positive is what learning-rate
    transfer over widths asks for (section 3.2, figure 6). Needs two widths."""
    pairs = torch.tensor([[math.sqrt(g.width), getattr(g, of)] for g in found], dtype=torch.float64)
    return float(torch.corrcoef(pairs.T)[0, 1])
