"""Softmax attention. Shapes: B batch, T queries, S keys, H query heads, K key/value heads, N = B * H, E head size."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_QUERIES = 128  # in a block of dense causal attention
_BAGS = 32  # number of heads from which a sum of weighted rows is worth its set-up


@dataclass(frozen=True)
class Documents:
    """The lengths of the documents that make up a single row, B = 1, one after the other: each attends to itself, causally."""

    lengths: tuple[int, ...]


Mask = Tensor | Documents | None


def attention(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, scale: float, mask: Mask) -> Tensor:
    """Softmax(scale q k + mask) v as (B, H, T, E); H is a multiple of K. Without `mask`, (B, 1, T, S), it is causal and T = S.

    In bf16 on a CPU it is computed as dense products, a block of queries at a time against the keys up to the block's end,
    because PyTorch's fused kernel has no fast backward pass there; everywhere else with the fused kernel.
    """
    if isinstance(mask, Documents):
        return _documents(q_BHTE, k_BKSE, v_BKSE, scale, mask.lengths)
    H, K, T, S = q_BHTE.shape[1], k_BKSE.shape[1], q_BHTE.shape[2], k_BKSE.shape[2]
    if T == 1 and mask is not None and q_BHTE.device.type == "cpu":
        return _one_query(q_BHTE, k_BKSE, v_BKSE, scale, mask)
    k_BKSE, v_BKSE = k_BKSE.to(q_BHTE.dtype), v_BKSE.to(q_BHTE.dtype)
    if q_BHTE.device.type != "cpu" or q_BHTE.dtype != torch.bfloat16 or T != S:
        added = None if mask is None else mask.to(q_BHTE.dtype)
        return F.scaled_dot_product_attention(
            q_BHTE, k_BKSE, v_BKSE, attn_mask=added, is_causal=mask is None, enable_gqa=H != K, scale=scale
        )
    if H != K:
        k_BKSE, v_BKSE = k_BKSE.repeat_interleave(H // K, dim=1), v_BKSE.repeat_interleave(H // K, dim=1)
    q_NTE, k_NSE, v_NSE = q_BHTE.flatten(0, 1), k_BKSE.flatten(0, 1), v_BKSE.flatten(0, 1)
    if mask is not None:
        mask = mask.to(q_BHTE.dtype).expand(q_BHTE.shape[0], H, T, S).flatten(0, 1)
    out: Tensor
    if torch.compiler.is_compiling():
        out = _blocks(q_NTE, k_NSE, v_NSE, scale, mask)[0]
    else:
        out = _Blocks.apply(q_NTE, k_NSE, v_NSE, scale, mask)  # type: ignore[no-untyped-call]
    return out.view_as(q_BHTE)


def _documents(q_1HTE: Tensor, k_1KTE: Tensor, v_1KTE: Tensor, scale: float, lengths: tuple[int, ...]) -> Tensor:
    """Every document by itself: no product between documents is made, and none is masked."""
    if q_1HTE.is_cuda and q_1HTE.dtype in (torch.bfloat16, torch.float16):
        return _varlen(q_1HTE, k_1KTE, v_1KTE, scale, lengths)
    parts = (torch.split(x, list(lengths), dim=2) for x in (q_1HTE, k_1KTE, v_1KTE))
    return torch.cat([attention(q, k, v, scale, None) for q, k, v in zip(*parts, strict=True)], dim=2)


def _varlen(q_1HTE: Tensor, k_1KTE: Tensor, v_1KTE: Tensor, scale: float, lengths: tuple[int, ...]) -> Tensor:
    """PyTorch's kernel for documents of varying length, which exists on CUDA in half precision alone."""
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor((0, *lengths), dtype=torch.int32, device=q_1HTE.device).cumsum(0, dtype=torch.int32)
    q_THE, k_TKE, v_TKE = (x[0].transpose(0, 1).to(q_1HTE.dtype) for x in (q_1HTE, k_1KTE, v_1KTE))
    most, grouped = max(lengths), q_1HTE.shape[1] != k_1KTE.shape[1]
    out = varlen_attn(q_THE, k_TKE, v_TKE, ends, ends, most, most, scale=scale, window_size=(-1, 0), enable_gqa=grouped)
    assert isinstance(out, Tensor)
    return out.transpose(0, 1)[None]


def _blocks(q_NTE: Tensor, k_NSE: Tensor, v_NSE: Tensor, scale: float, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """Attention in blocks of queries, (N, T, E), and each block's weights."""
    out, kept = [], []
    for start, end in _bounds(q_NTE.shape[1]):
        if mask is None:  # -inf is added instead of masking, which would need a mask in the backward pass too
            unseen = torch.full((end - start, end), float("-inf"), dtype=q_NTE.dtype).triu_(start + 1)
        else:
            unseen = mask[:, start:end, :end]
        scores = torch.baddbmm(unseen, q_NTE[:, start:end], k_NSE[:, :end].transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1)
        out.append(weights @ v_NSE[:, :end])
        kept.append(weights)
    return out[0] if len(out) == 1 else torch.cat(out, dim=1), kept


def _bounds(T: int) -> list[tuple[int, int]]:
    return [(start, min(start + _QUERIES, T)) for start in range(0, T, _QUERIES)]


class _Blocks(torch.autograd.Function):
    """`_blocks` for autograd: the blocks' gradients of keys and values are added in place; autograd itself would pad each."""

    @staticmethod
    def forward(ctx: Any, q_NTE: Tensor, k_NSE: Tensor, v_NSE: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        out, weights = _blocks(q_NTE, k_NSE, v_NSE, scale, mask)
        ctx.save_for_backward(q_NTE, k_NSE, v_NSE, *weights)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_NTE, k_NSE, v_NSE, *weights = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q_NTE), torch.zeros_like(k_NSE), torch.zeros_like(v_NSE)
        for (start, end), w in zip(_bounds(q_NTE.shape[1]), weights, strict=True):
            g, q = grad[:, start:end], q_NTE[:, start:end]
            dv[:, :end].baddbmm_(w.transpose(1, 2), g)
            d_scores = torch._softmax_backward_data(g @ v_NSE[:, :end].transpose(1, 2), w, -1, w.dtype).mul_(ctx.scale)
            dk[:, :end].baddbmm_(d_scores.transpose(1, 2), q)
            dq[:, start:end] = d_scores @ k_NSE[:, :end]
        return dq, dk, dv, None, None


def _one_query(q_BH1E: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, scale: float, mask_B11S: Tensor) -> Tensor:
    """Attention of one new position, (B, H, 1, E), as small products, for which the fused kernel's set-up costs too much. Query
    heads that share keys are multiplied together."""
    B, H, _, E = q_BH1E.shape
    K, S = k_BKSE.shape[1], k_BKSE.shape[2]
    q = q_BH1E.to(k_BKSE.dtype).contiguous().view(B, K, H // K, E)  # otherwise the product would copy all keys
    scores = k_BKSE @ q.mT if H == K else q @ k_BKSE.mT  # for one vector this order takes two thirds of the time
    # Softmax in fp32, whatever the precision of the cache.
    weights = torch.softmax(torch.add(mask_B11S, scores.view(B, H, 1, S).float(), alpha=scale), dim=-1).to(v_BKSE.dtype)
    stride_B, stride_K, *inner = v_BKSE.stride()
    if B * K < _BAGS or inner != [E, 1] or stride_B % E or stride_K % E:
        return (weights.view(B, K, H // K, S) @ v_BKSE).view(B, H, 1, E).to(q_BH1E.dtype)
    rows = v_BKSE.as_strided(((stride_B * (B - 1) + stride_K * (K - 1)) // E + S, E), (E, 1))
    places, ends = _places(B, K, H // K, S, stride_B // E, stride_K // E)
    out: Tensor = torch.embedding_bag(rows, places, ends, False, 0, False, weights.view(-1))[0]
    return out.view(B, H, 1, E).to(q_BH1E.dtype)


@functools.lru_cache(maxsize=1)  # the result is the same in all layers of a step
def _places(B: int, K: int, G: int, S: int, step_B: int, step_K: int) -> tuple[Tensor, Tensor]:
    """For each query head the rows of the values that it weighs, and where each head's rows begin: as a sum of weighted rows
    this is twice as fast as a product of vector and matrix. G query heads share keys and values."""
    head_BK = torch.arange(B, dtype=torch.int32)[:, None] * step_B + torch.arange(K, dtype=torch.int32) * step_K
    row_S = torch.arange(S, dtype=torch.int32)
    places = (head_BK[:, :, None, None] + row_S).expand(B, K, G, S).reshape(-1)
    return places, torch.arange(0, B * K * G * S, S, dtype=torch.int32)
