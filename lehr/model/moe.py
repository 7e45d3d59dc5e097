"""Mixture of experts. Shapes: B batch, T positions, D model width, N tokens, X experts, K experts a token, F expert width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model


@dataclass(frozen=True, slots=True)
class Routing:
    """What one layer's router did with N tokens: `balance` and `z` are means over them, to be learnt from; `load_X` is how
    many of the N * K assignments each expert got."""

    balance: Tensor
    z: Tensor
    load_X: Tensor


class Experts(nn.Module):
    """Dropless top-k experts (Granite 3.0 section 2.2): sum over the chosen of gate * SwiGLU expert, where the gates are a
    softmax over the chosen logits alone (equation 2; conflict granite_eq2 of the facts).

    Assignments are sorted by expert, so that each expert's tokens are one contiguous block and one pair of matrix
    products; nothing is masked, padded or dropped.
    """

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.n_experts, self.top_k = config.n_experts, config.top_k
        self.router = nn.Linear(config.d_model, config.n_experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(config.n_experts, 2 * config.mlp_hidden, config.d_model))
        self.down = nn.Parameter(torch.empty(config.n_experts, config.d_model, config.mlp_hidden))

    def forward(self, x_BTD: Tensor, routing: list[Routing] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D). Appends to `routing` if it is given."""
        x_ND = x_BTD.reshape(-1, x_BTD.shape[-1])
        logits_NX = self.router(x_ND).float()
        chosen_NK_logits, chosen_NK = logits_NX.topk(self.top_k, dim=-1)
        gates_NK = torch.softmax(chosen_NK_logits, dim=-1)
        load_X = torch.bincount(chosen_NK.reshape(-1), minlength=self.n_experts)
        if routing is not None:
            routing.append(_routing(logits_NX, load_X))
        order = chosen_NK.reshape(-1).argsort(stable=True)  # assignments by expert
        token = order // self.top_k
        y = self._grouped(x_ND[token], load_X)
        y = y * gates_NK.reshape(-1)[order].to(y.dtype)[:, None]
        return torch.zeros_like(x_ND).index_add(0, token, y).view(x_BTD.shape)

    def _grouped(self, x: Tensor, load_X: Tensor) -> Tensor:
        """Rows sorted by expert through their experts: the grouped kernel on GPUs, a product a block on CPU."""
        if x.is_cuda:
            ends_X = load_X.cumsum(0).to(torch.int32)
            gate, up = F.grouped_mm(x, self.gate_up.transpose(1, 2), offs=ends_X).chunk(2, dim=-1)
            out: Tensor = F.grouped_mm(F.silu(gate) * up, self.down.transpose(1, 2), offs=ends_X)
            return out
        rows: list[int] = load_X.tolist()
        blocks = torch.split(x, rows)
        joined = [F.linear(block, w) for block, w in zip(blocks, self.gate_up.unbind(), strict=True)]
        gate, up = torch.cat(joined).chunk(2, dim=-1)
        inner = torch.split(F.silu(gate) * up, rows)
        return torch.cat([F.linear(block, w) for block, w in zip(inner, self.down.unbind(), strict=True)])


def _routing(logits_NX: Tensor, load_X: Tensor) -> Routing:
    """Granite 3.0 equations 4 and 5: balance = X sum_i f_i P_i with f the share of assignments (its least value is 1) and P
    the mean probability; z = mean of logsumexp squared."""
    lse_N = torch.logsumexp(logits_NX, dim=-1)
    P_X = (logits_NX - lse_N[:, None]).exp().mean(dim=0)
    f_X = load_X / load_X.sum()
    return Routing(logits_NX.shape[1] * (f_X * P_X).sum(), lse_N.square().mean(), load_X)
