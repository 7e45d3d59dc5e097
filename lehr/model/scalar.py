"""A decoder that says one number at each position, for value and reward models. Shapes: B batch, T positions, D model width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.init import truncated_normal_
from lehr.model.transformer import Backbone


class ScalarModel(Backbone):
    """A backbone with a linear head of one output, without a bias, under the name that Hugging Face's sequence classifiers have
    for it: `score`. What the position's tokens so far are worth is read from its final normed state.
    """

    def __init__(self, config: Model) -> None:
        super().__init__(config)
        self.score = nn.Linear(config.d_model, 1, bias=False)

    @classmethod
    @torch.no_grad()
    def on(cls, backbone: Backbone, seed: int | None = None) -> ScalarModel:
        """A copy of `backbone` (a policy's, say) with a new head: zeros without a `seed`, so that every value begins at 0;
        else normal with standard deviation 1 / sqrt(D + 1), cut at 3 of it.

        The deviation is Stiennon et al.'s (2020, arXiv 2009.01325, p. 11), as open-instruct's reward models take it.
        """
        model = cls(backbone.config)
        weights = dict(backbone.named_parameters())
        for name, parameter in model.named_parameters():
            if name != "score.weight":
                parameter.copy_(weights[name])
        if seed is None:
            model.score.weight.zero_()
        else:
            std = 1 / math.sqrt(backbone.config.d_model + 1)
            truncated_normal_(model.score.weight, std, torch.Generator().manual_seed(seed))
        return model.to(backbone.cos.device)

    def values(self, tokens_BT: Tensor) -> Tensor:
        """One number a position, (B, T), in fp32 whatever the backbone computes in; causal."""
        return F.linear(self.hidden(tokens_BT).float(), self.score.weight.float())[..., 0]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """See `values`."""
        return self.values(tokens_BT)
