"""Mixture of experts. Shapes: B batch, T positions, D model width, N tokens, X experts, K experts a token, F expert width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model


@dataclass(frozen=True, slots=True)
class Routing:
    """One layer's routing of N tokens: `balance` and `z` are differentiable means over them; `load_X` is how many of the N * K
    assignments each expert got."""

    balance: Tensor
    z: Tensor
    load_X: Tensor


class Experts(nn.Module):
    """Dropless top-k experts (Granite 3.0 section 2.2): the sum over the chosen experts of gate * SwiGLU expert, with gates
    that are a softmax over the chosen logits only (equation 2; conflict granite_eq2 of the facts).

    Assignments are sorted by expert, so that each expert's tokens are one contiguous block and need one pair of matrix
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
        # Gates and the routers' losses in fp32: in bf16 the logsumexp over experts and the means over tokens lose digits.
        logits_NX = self.router(x_ND).float()
        chosen_NK_logits, chosen_NK = logits_NX.topk(self.top_k, dim=-1)
        gates_NK = torch.softmax(chosen_NK_logits, dim=-1)
        load_X = torch.bincount(chosen_NK.reshape(-1), minlength=self.n_experts)
        if routing is not None:
            routing.append(_routing(logits_NX, load_X))
        order = chosen_NK.reshape(-1).argsort(stable=True)  # assignments by expert
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        y: Tensor = self._grouped(_Rows.apply(x_ND, order, place, self.top_k), load_X)  # type: ignore[no-untyped-call]
        out: Tensor = _Combined.apply(y, gates_NK.to(y.dtype), order, place)  # type: ignore[no-untyped-call]
        return out.view(x_BTD.shape)

    def _grouped(self, x: Tensor, load_X: Tensor) -> Tensor:
        """Rows sorted by expert through their experts: the grouped kernel on GPUs, one product for each block on a CPU."""
        if x.is_cuda:
            ends_X = load_X.cumsum(0).to(torch.int32)
            gate, up = F.grouped_mm(x, self.gate_up.transpose(1, 2), offs=ends_X).chunk(2, dim=-1)
            out: Tensor = F.grouped_mm(F.silu(gate) * up, self.down.transpose(1, 2), offs=ends_X)
            return out
        rows: list[int] = load_X.tolist()
        gate, up = _Blocks.apply(x, self.gate_up, rows).chunk(2, dim=-1)  # type: ignore[no-untyped-call]
        y: Tensor = _Blocks.apply(F.silu(gate) * up, self.down, rows)  # type: ignore[no-untyped-call]
        return y


class _Rows(torch.autograd.Function):
    """x[order // copies]: every row `copies` times, permuted. `place` is the inverse of `order`, so that the gradient is a
    gather and a short sum instead of a scatter."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, order: Tensor, place: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.copies = copies
        return x_ND.index_select(0, order // copies)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (place,) = ctx.saved_tensors
        back_NKD = grad.index_select(0, place).view(-1, ctx.copies, grad.shape[-1])
        return _added(back_NKD), None, None, None


class _Combined(torch.autograd.Function):
    """The experts' outputs for each token, (N * K, D) sorted by expert, times their gates, summed: (N, D)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gates_NK: Tensor, order: Tensor, place: Tensor) -> Tensor:
        y_NKD = y.index_select(0, place).view(*gates_NK.shape, -1)
        ctx.save_for_backward(y_NKD, gates_NK, order)
        return _added(y_NKD * gates_NK[:, :, None])

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y_NKD, gates_NK, order = ctx.saved_tensors
        dy_NKD = grad_ND[:, None] * gates_NK[:, :, None]
        d_gates_NK = torch.linalg.vecdot(y_NKD, grad_ND[:, None])
        return dy_NKD.flatten(0, 1).index_select(0, order), d_gates_NK, None, None


def _added(x_NKD: Tensor) -> Tensor:
    """The sum over K as K additions of whole arrays: on a CPU a reduction over so short an axis is many times slower."""
    out = x_NKD[:, 0].clone()
    for k in range(1, x_NKD.shape[1]):
        out += x_NKD[:, k]
    return out


class _Blocks(torch.autograd.Function):
    """Rows sorted by expert times their experts' matrices, (X, F, D); each product is written to its place in the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_XFD: Tensor, rows: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight_XFD)
        ctx.rows = rows
        out = x.new_empty(len(x), weight_XFD.shape[1])
        for expert, block in _blocks(rows):
            torch.mm(x[block], weight_XFD[expert].t(), out=out[block])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight_XFD = ctx.saved_tensors
        grad = grad.contiguous()
        dx, dw = torch.empty_like(x), torch.zeros_like(weight_XFD)
        for expert, block in _blocks(ctx.rows):
            torch.mm(grad[block], weight_XFD[expert], out=dx[block])
            torch.mm(grad[block].t(), x[block], out=dw[expert])
        return dx, dw, None


def _blocks(rows: list[int]) -> Iterator[tuple[int, slice]]:
    """(expert, its rows) of the experts that have rows."""
    start = 0
    for expert, n in enumerate(rows):
        if n:
            yield expert, slice(start, start + n)
        start += n


def _routing(logits_NX: Tensor, load_X: Tensor) -> Routing:
    """Granite 3.0 equations 4 and 5: balance = X sum_i f_i P_i, with f the share of assignments and P the mean probability (1
    if both are even); z = mean of logsumexp squared."""
    lse_N = torch.logsumexp(logits_NX, dim=-1)
    P_X = (logits_NX - lse_N[:, None]).exp().mean(dim=0)
    f_X = load_X / load_X.sum()
    return Routing(logits_NX.shape[1] * (f_X * P_X).sum(), lse_N.square().mean(), load_X)
