"""Losses as sums: nats and counts are added over micro-batches and ranks, and divided once, so that neither
accumulation nor world size changes the result. Shapes: B batch, T positions, N chosen positions, D width, V vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.moe import Routing
from lehr.model.transformer import Transformer

IGNORE = -100


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Sums over the labelled positions: `nats` (differentiable), `z` = sum of logsumexp squared, and their number.

    `routing` is what each layer's router did, empty without experts.
    """

    nats: Tensor
    z: Tensor
    tokens: int
    routing: list[Routing]


def cross_entropy(
    model: Transformer,
    tokens_BT: Tensor,
    labels_BT: Tensor,
    *,
    with_z: bool,
    begins_BT: Tensor | None = None,
    whole: bool = False,
) -> CrossEntropy:
    """Next-token loss at positions whose label is not -100; logits exist only there. `begins_BT`: see Transformer.hidden.
    `whole`: there is no -100, so nothing need be picked, which a host would have to wait for.

    z is OLMo 2's regulariser, logsumexp(logits) squared (section 3.2.3), which keeps logits from drifting.
    """
    routing: list[Routing] = []
    hidden_BTD = model.hidden(tokens_BT, routing=routing, begins_BT=begins_BT)
    chosen = None if whole else labels_BT != IGNORE
    hidden_ND, labels_N = (x.flatten(0, 1) if chosen is None else x[chosen] for x in (hidden_BTD, labels_BT))
    logits_NV = model.logits(hidden_ND).float()
    # One pass over the exponentials serves both: -log p(label) = logsumexp(logits) - logit(label).
    lse_N = torch.logsumexp(logits_NV, dim=-1)
    nats = (lse_N - logits_NV.gather(1, labels_N[:, None])[:, 0]).sum()
    z = lse_N.square().sum() if with_z else nats.new_zeros(())
    return CrossEntropy(nats, z, int(labels_N.numel()), routing)


def router_loss(ce: CrossEntropy, config: Model) -> Tensor | float:
    """The routers' own losses, summed over layers and weighed by the tokens, so that dividing once by the global tokens
    gives their mean: balance_loss * L_b + router_z_loss * L_z (Granite 3.0 equations 4 and 5).

    L_b is a product of two means over the tokens at hand, so it alone depends on how a global batch is cut up, as in every
    trainer that balances per micro-batch.
    """
    if not ce.routing:
        return 0.0
    balance = torch.stack([r.balance for r in ce.routing]).sum()
    z = torch.stack([r.z for r in ce.routing]).sum()
    return ce.tokens * (config.balance_loss * balance + config.router_z_loss * z)


def token_logprobs(model: Transformer, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """log p(label) at every position, zero where the label is -100: shape (B, T)."""
    chosen = labels_BT != IGNORE
    logits_NV = model.logits(model.hidden(tokens_BT)[chosen]).float()
    picked_N = -F.cross_entropy(logits_NV, labels_BT[chosen], reduction="none")
    return torch.zeros(labels_BT.shape, dtype=torch.float32, device=tokens_BT.device).masked_scatter(chosen, picked_N)
