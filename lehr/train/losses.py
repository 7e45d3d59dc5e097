"""Losses as sums: nats and counts are added over micro-batches and ranks and divided once, so that neither gradient
accumulation nor world size changes the result. Shapes: B batch, T positions, N chosen positions, D width, V vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.attention import Documents
from lehr.model.moe import Routing
from lehr.model.transformer import Transformer

IGNORE = -100


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Sums over the labelled positions: `nats` (differentiable), `z` = sum of logsumexp squared, and their number.

    `routing` holds the routing statistics of each layer, empty without experts.
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
    documents: Documents | None = None,
    whole: bool = False,
) -> CrossEntropy:
    """Next-token loss at positions whose label is not -100; logits are computed only there. `begins_BT`, `documents`: see
    Transformer.hidden. `whole`: no label is -100, so no positions need be selected, which would synchronise with the device.

    z is OLMo 2's regulariser, logsumexp(logits) squared (OLMo 2 section 3.3.3), which keeps logits from drifting.
    """
    routing: list[Routing] = []
    hidden_BTD = model.hidden(tokens_BT, routing=routing, begins_BT=begins_BT, documents=documents)
    hidden_ND, labels_N = labelled(hidden_BTD, labels_BT, whole)
    nats, z = _Sums.apply(model.logits(hidden_ND), labels_N)  # type: ignore[no-untyped-call]
    return CrossEntropy(nats, z if with_z else nats.new_zeros(()), int(labels_N.numel()), routing)


def labelled(hidden_BTD: Tensor, labels_BT: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) and labels (N,) of the labelled positions; `whole`: all are, which need not be checked then."""
    if whole:
        return hidden_BTD.flatten(0, 1), labels_BT.flatten()
    chosen = labels_BT != IGNORE
    return hidden_BTD[chosen], labels_BT[chosen]


class _Sums(torch.autograd.Function):
    """(sum of -log p(label), sum of logsumexp squared) of logits (N, V); the backward pass overwrites the logits with their
    gradient, so that they exist once, in the working precision. Only a block of rows at a time is in fp32, small enough for a
    CPU's cache: in a narrow model the head's buffers are most of the memory that a step reads, writes and occupies.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        lse_N = torch.empty(len(labels_N), dtype=torch.float32, device=labels_N.device)
        # fp32: in bf16 a sum of exponentials over a vocabulary loses most of its digits.
        for rows in _row_blocks(logits_NV):
            torch.logsumexp(logits_NV[rows].float(), dim=-1, out=lse_N[rows])
        picked_N = logits_NV.gather(1, labels_N[:, None])[:, 0].float()
        ctx.save_for_backward(logits_NV, labels_N, lse_N)
        return (lse_N - picked_N).sum(), lse_N.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_nats: Tensor, d_z: Tensor) -> tuple[Tensor, None]:
        """d nats / d logits = p - onehot(label); d z / d logits = 2 lse p."""
        logits_NV, labels_N, lse_N = ctx.saved_tensors
        of_p_N = d_nats + 2 * d_z * lse_N
        for rows in _row_blocks(logits_NV):
            d_MV = logits_NV[rows].float().sub_(lse_N[rows, None]).exp_().mul_(of_p_N[rows, None])
            d_MV.scatter_add_(1, labels_N[rows, None], -d_nats.expand(len(d_MV), 1))
            # In place, hence once_differentiable: the logits that a second backward pass would need are gone.
            logits_NV[rows] = d_MV
        return logits_NV, None


def _row_blocks(logits_NV: Tensor) -> Iterator[slice]:
    """Blocks of rows to convert to fp32 at once: 2 MiB on a CPU; 256 MiB on a GPU, where small kernels would be slow."""
    step = max(1, (2**26 if logits_NV.is_cuda else 2**19) // logits_NV.shape[1])
    return (slice(start, start + step) for start in range(0, len(logits_NV), step))


def summed(lse_N: Tensor, picked_N: Tensor, with_z: bool, routing: list[Routing]) -> CrossEntropy:
    """The sums, from each position's logsumexp of the logits and the label's logit."""
    nats = (lse_N - picked_N).sum()
    z = lse_N.square().sum() if with_z else nats.new_zeros(())
    return CrossEntropy(nats, z, int(lse_N.numel()), routing)


def router_loss(ce: CrossEntropy, config: Model) -> Tensor | float:
    """The routers' own losses, summed over layers and multiplied by the number of tokens, so that dividing once by the global
    tokens gives their mean: balance_loss * L_b + router_z_loss * L_z (Granite 3.0 equations 4 and 5).

    L_b is a product of two means over the micro-batch, so unlike all other losses it depends on how the global batch is
    divided into micro-batches, as in every trainer that balances experts per micro-batch.
    """
    if not ce.routing:
        return 0.0
    balance = torch.stack([r.balance for r in ce.routing]).sum()
    z = torch.stack([r.z for r in ce.routing]).sum()
    return ce.tokens * (config.balance_loss * balance + config.router_z_loss * z)


def token_logprobs(
    model: Transformer,
    tokens_BT: Tensor,
    labels_BT: Tensor,
    temperature: float = 1.0,
    documents: Documents | None = None,
) -> Tensor:
    """log p(label) at every position, zero where the label is -100: shape (B, T). Logits are divided by `temperature`, which
    must be that of sampling when the labels were sampled."""
    chosen = labels_BT != IGNORE
    logits_NV = model.logits(model.hidden(tokens_BT, documents=documents)[chosen]).float() / temperature
    picked_N = -F.cross_entropy(logits_NV, labels_BT[chosen], reduction="none")
    return torch.zeros(labels_BT.shape, dtype=torch.float32, device=tokens_BT.device).masked_scatter(chosen, picked_N)
