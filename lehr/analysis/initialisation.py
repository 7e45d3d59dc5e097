"""How a freshly initialised model carries signal through its depth: the growth exponents of OLMo 2 section 3.2.

The report measures "at the initial and final layers (ignoring embeddings)". The initial layer is here the first block's
output; the final layer is the state behind the final norm, the last of the hidden states that OLMo's code (and Hugging
Face's) gives for every model. Behind the last block, before that norm, the residual stream of OLMo 2 grows like the square
root of the depth by construction, as every block adds two normed vectors; those exponents are kept too (`stream_...`), and
the report's result does not hold for them (docs/initialisation.md).

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
OLD, NEW = "OLMo 0424", "OLMo 2"


@dataclass(frozen=True)
class Growth:
    """One model at initialisation. An exponent is (1/layers) ln(norm at the final layer / norm behind the first block); near
    0 the scale is kept. Norms are those at the final layer, behind the final norm; `stream_...`: behind the last block."""

    scheme: str
    width: int
    activation_exponent: float
    gradient_exponent: float
    activation_norm: float
    gradient_norm: float
    stream_activation_exponent: float
    stream_gradient_exponent: float


def schemes(layers: int, width: int, length: int, vocab_size: int) -> dict[str, Model]:
    """The comparison of OLMo 2 section 3.2 at one width: OLMo 0424 and OLMo 2, each with its own initialisation and with the
    other's.

    Heads of 64 dimensions (of the whole width where it is smaller), a gated MLP of 8/3 widths.
    """
    heads = max(1, width // 64)
    sizes = {"vocab_size": vocab_size, "n_layers": layers, "d_model": width, "n_heads": heads, "n_kv_heads": heads}
    sizes |= {"mlp_hidden": 8 * width // 3 // 8 * 8, "max_seq_len": length}
    old = {"family": "olmo", "clip_qkv": 8.0, **sizes}
    new = {"family": "olmo2", **sizes}
    return {
        OLD: Model.model_validate(old),
        f"{OLD}, new init": Model.model_validate({**old, "init": "normal", "init_std": 0.02}),
        f"{NEW}, old init": Model.model_validate({**new, "init": "mitchell"}),
        NEW: Model.model_validate(new),
    }


def growth(scheme: str, config: Model, documents: Sequence[Tensor], seed: int) -> Growth:
    """Measure a model of `config` on `documents`, each a tensor of at least T + 1 token ids, T = config.max_seq_len.

    Activations, and the gradients of each document's mean loss with respect to them, are averaged over documents and
    positions into vectors v and v' of length D (OLMo 2 section 3.2).
    """
    model = Transformer(config).initialise(seed)
    model.requires_grad_(False)
    taps = (model.layers[0], model.layers[-1], model.norm)
    activations, gradients = [[_Mean(config.d_model) for _ in taps] for _ in range(2)]
    for tokens_BT1 in _batches(documents, config.max_seq_len):
        kept: list[Tensor] = []
        hooks = [tap.register_forward_hook(_recording_hook(kept)) for tap in taps]
        embedding = model.embed.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
        ce = cross_entropy(model, tokens_BT1[:, :-1], tokens_BT1[:, 1:], with_z=False)
        for hook in (*hooks, embedding):
            hook.remove()
        for mean, found in zip(gradients, torch.autograd.grad(ce.nats / config.max_seq_len, kept), strict=True):
            mean.add(found)
        for mean, found in zip(activations, kept, strict=True):
            mean.add(found)
    first, stream, final = (mean.norm() for mean in activations)
    # Gradients flow downwards; their exponent keeps the report's direction, final over first.
    first_gradient, stream_gradient, final_gradient = (mean.norm() for mean in gradients)

    def exponent(last: float, begin: float) -> float:
        return math.log(last / begin) / config.n_layers

    return Growth(
        scheme, config.d_model, exponent(final, first), exponent(final_gradient, first_gradient), final, final_gradient,
        exponent(stream, first), exponent(stream_gradient, first_gradient),
    )  # fmt: skip


class _Mean:
    """Mean over all documents and positions of vectors of one width."""

    def __init__(self, width: int) -> None:
        self.total, self.count = torch.zeros(width, dtype=torch.float64), 0

    def add(self, x_BTD: Tensor) -> None:
        self.total += x_BTD.detach().double().sum(dim=(0, 1))
        self.count += x_BTD.shape[0] * x_BTD.shape[1]

    def norm(self) -> float:
        return float((self.total / self.count).norm())


def _recording_hook(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        kept.append(output)

    return keep


def _batches(documents: Sequence[Tensor], length: int) -> Iterator[Tensor]:
    for start in range(0, len(documents), _ROWS):
        yield torch.stack([d[: length + 1] for d in documents[start : start + _ROWS]])


def sqrt_width_power(found: Sequence[Growth], of: str) -> float:
    """How a norm (`activation_norm` or `gradient_norm`) goes with sqrt(width): the slope of its logarithm over that of
    sqrt(width), 1 where it is proportional, as transfer of the learning rate over widths asks for, 0 where it does not
    depend on the width (OLMo 2 section 3.2, figure 6). Needs two widths."""
    logs = torch.tensor([[math.log(g.width) / 2, math.log(getattr(g, of))] for g in found], dtype=torch.float64)
    covariance = torch.cov(logs.T)
    return float(covariance[0, 1] / covariance[0, 0])


def nearer_to_zero(found: Sequence[Growth], of: str) -> dict[int, bool]:
    """By width: whether OLMo 2's exponent `of` (a field of Growth) is nearer to 0 than OLMo 0424's: OLMo 2 figure 5."""
    size = {(g.scheme, g.width): abs(getattr(g, of)) for g in found}
    widths = dict.fromkeys(g.width for g in found)
    return {w: size[NEW, w] < size[OLD, w] for w in widths if (NEW, w) in size and (OLD, w) in size}
