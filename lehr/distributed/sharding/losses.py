"""The loss on the rank that holds the head. Shapes: B batch, T positions, D width, N labelled positions, V vocabulary, L this
rank's share of it."""

from __future__ import annotations

import torch
from torch import Tensor

from lehr.distributed.sharding.model_shard import ModelShard
from lehr.distributed.sharding.tensor_parallel import local_logits, sharded_lse_and_label
from lehr.model.moe import Routing
from lehr.model.transformer import Transformer
from lehr.train.losses import CrossEntropy, labelled, summed


def part_cross_entropy(
    model: Transformer,
    tokens_BT: Tensor,
    labels_BT: Tensor,
    *,
    with_z: bool,
    begins_BT: Tensor | None = None,
    whole: bool = False,
) -> CrossEntropy:
    """lehr.train.losses.cross_entropy for a model without pipeline stages; `model` is a ModelShard."""
    assert isinstance(model, ModelShard)
    routing: list[Routing] = []
    hidden_BTD = model.hidden(tokens_BT, routing=routing, begins_BT=begins_BT)
    return head_loss(model, hidden_BTD, labels_BT, with_z, routing, whole)


def head_loss(
    part: ModelShard, hidden_BTD: Tensor, labels_BT: Tensor, with_z: bool, routing: list[Routing], whole: bool = False
) -> CrossEntropy:
    """The loss sums over the labelled positions, from the last stage's hidden states after the final norm."""
    hidden_ND, labels_N = labelled(hidden_BTD, labels_BT, whole)
    if part.place.parallel.tensor > 1:
        logits_NL = local_logits(part, hidden_ND).float()
        return summed(*sharded_lse_and_label(logits_NL, labels_N, part.place.group("tensor")), with_z, routing)
    logits_NV = Transformer.logits(part, hidden_ND).float()
    lse_N = torch.logsumexp(logits_NV, dim=-1)
    return summed(lse_N, logits_NV.gather(1, labels_N[:, None])[:, 0], with_z, routing)
