"""A decoder with one number at each position, for value and reward models. Shapes: B batch, T positions, D model width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.attention import Documents
from lehr.model.init import truncated_normal_
from lehr.model.transformer import Backbone


class ScalarModel(Backbone):
    """A backbone with a linear head of one output and without bias, named `score` as in Hugging Face's sequence classifiers.
    The value of the tokens up to a position is computed from the position's final normed state.
    """

    def __init__(self, config: Model) -> None:
        super().__init__(config)
        self.score = nn.Linear(config.d_model, 1, bias=False)

    @classmethod
    @torch.no_grad()
    def on(cls, backbone: Backbone, seed: int | None = None) -> ScalarModel:
        """A copy of `backbone` (a policy's, say) with a new head: zeros without a `seed`, so that every value begins at 0;
        otherwise normal with standard deviation 1 / sqrt(D + 1), truncated at 3 standard deviations.

        The deviation is that of Stiennon et al. (2020, arXiv 2009.01325, p. 11), which open-instruct's reward models use.
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

    def values(self, tokens_BT: Tensor, documents: Documents | None = None) -> Tensor:
        """One number at each position, (B, T), in fp32 whatever precision the backbone computes in; causal. `documents`: see
        Backbone.hidden."""
        return F.linear(self.hidden(tokens_BT, documents=documents).float(), self.score.weight.float())[..., 0]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """See `values`."""
        return self.values(tokens_BT)
