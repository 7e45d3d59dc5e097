"""Log-probabilities of a given text. Shapes: N positions of a block, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lehr.model.online import Picked
from lehr.model.transformer import Transformer

_BLOCK = 256  # positions whose logits exist at once


@dataclass(frozen=True)
class Scored:
    """A token of the prompt, and its `rank` among all: 1 is the likeliest."""

    picked: Picked
    rank: int


@torch.no_grad()
def prompt_logprobs(model: Transformer, ids: Sequence[int], temperature: float, top: int) -> list[Scored]:
    """Of each token but the first, given those before it: by one forward pass without a cache, in fp32, of logits over
    `temperature`."""
    tokens_BT = torch.tensor([ids], device=model.cos.device)
    hidden_TD = model.hidden(tokens_BT)[0, :-1]
    out: list[Scored] = []
    for start in range(0, len(hidden_TD), _BLOCK):
        logp_NV = torch.log_softmax(model.logits(hidden_TD[start : start + _BLOCK]).float() / temperature, dim=-1)
        wanted_N1 = tokens_BT[0, 1 + start : 1 + start + len(logp_NV), None]
        own_N1 = logp_NV.gather(1, wanted_N1)
        rank_N = (logp_NV > own_N1).sum(dim=1) + 1
        values_NK, ids_NK = logp_NV.topk(min(top, logp_NV.shape[1]), dim=-1)
        for n in range(len(logp_NV)):
            likeliest = tuple(zip(ids_NK[n].tolist(), values_NK[n].tolist(), strict=True))
            out.append(Scored(Picked(int(wanted_N1[n]), float(own_N1[n]), likeliest), int(rank_N[n])))
    return out
