"""Layers of the transformer. Shapes: B batch, T positions of this call, S positions in the cache, D model width,
H query heads, K key/value heads, E head size, F gated MLP width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.recipe import Model


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in fp32 and cast back (Zhang & Sennrich 2019; OLMo 2 section 3.2)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)


def rope_tables(head_dim: int, length: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, each of shape (length, head_dim), half-rotation order (Su et al. 2021)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies[None, :]
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().float(), both.sin().float()


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + E/2]) by its position's angle. `cos`/`sin` broadcast to (B, H, T, E)."""
    first, second = x_BHTE.chunk(2, dim=-1)
    return (x_BHTE * cos + torch.cat([-second, first], dim=-1) * sin).to(x_BHTE.dtype)


_QUERIES = 128  # per block of dense causal attention


def causal_attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    """Softmax(q k / sqrt(E)) v, causal, as (B, H, T, E); H is a multiple of K.

    In bf16 on CPU as dense products per block of queries, each against the keys up to its own end: PyTorch's fused kernel
    has no fast backward pass there. Elsewhere the fused kernel.
    """
    H, K, T, E = q_BHTE.shape[1], k_BKTE.shape[1], q_BHTE.shape[2], q_BHTE.shape[3]
    if q_BHTE.device.type != "cpu" or q_BHTE.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=H != K)
    if H != K:
        k_BKTE, v_BKTE = k_BKTE.repeat_interleave(H // K, dim=1), v_BKTE.repeat_interleave(H // K, dim=1)
    q_BHTE = q_BHTE * E**-0.5
    out = []
    for start in range(0, T, _QUERIES):
        end = min(start + _QUERIES, T)
        scores = q_BHTE[:, :, start:end] @ k_BKTE[:, :, :end].transpose(-1, -2)
        # An added -inf needs no mask in the backward pass.
        future = torch.full((end - start, end), float("-inf"), dtype=scores.dtype).triu_(start + 1)
        weights = torch.softmax(scores + future, dim=-1)
        out.append(weights @ v_BKTE[:, :, :end])
    return out[0] if len(out) == 1 else torch.cat(out, dim=2)


class KVCache:
    """Keys and values of all layers for one batch of generations, in buffers of fixed size.

    Prompts of unequal length are padded on the LEFT, so that all rows append at the same column; `start_B` is each row's
    first real column, and positions count from there.
    """

    def __init__(self, config: Model, batch: int, length: int, start_B: Tensor, dtype: torch.dtype) -> None:
        shape = (config.n_layers, batch, config.n_kv_heads, length, config.head_dim)
        device = start_B.device
        self.keys, self.values = torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
        self.start_B, self.used, self.length = start_B, 0, length

    def keep_rows(self, rows: Tensor) -> None:
        """Drop finished generations: only `rows` (indices, in order) go on."""
        self.keys, self.values = self.keys[:, rows].contiguous(), self.values[:, rows].contiguous()
        self.start_B = self.start_B[rows]


class Attention(nn.Module):
    """Multi-head or grouped-query attention with QK-norm over the whole projection, before RoPE (OLMo 2 section 3.2)."""

    def __init__(self, config: Model, layer: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.layer = config.n_heads, config.n_kv_heads, config.head_dim, layer
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.widths = [q_width, kv_width, kv_width]
        self.qkv = nn.Linear(config.d_model, sum(self.widths), bias=False)
        self.q_norm, self.k_norm = RMSNorm(q_width, config.norm_eps), RMSNorm(kv_width, config.norm_eps)
        self.out = nn.Linear(q_width, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """Returns (B, T, D). Without `mask` attention is causal; `mask` is additive, (B, 1, T, S)."""
        B, T, _ = x_BTD.shape
        q, k, v = self.qkv(x_BTD).split(self.widths, dim=-1)
        q = rotate(self.q_norm(q).view(B, T, self.heads, self.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(k).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2), cos, sin)
        v = v.view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        if cache is not None:
            end = cache.used + T
            cache.keys[self.layer, :, :, cache.used : end] = k
            cache.values[self.layer, :, :, cache.used : end] = v
            k, v = cache.keys[self.layer, :, :, :end], cache.values[self.layer, :, :, :end]
        if mask is None:
            y = causal_attention(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), enable_gqa=self.kv_heads != self.heads)
        out: Tensor = self.out(y.transpose(1, 2).reshape(B, T, -1))
        return out


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020), gate and up in one matrix product."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.mlp_hidden, bias=False)
        self.down = nn.Linear(config.mlp_hidden, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """h = x + norm(attention(x)); y = h + norm(mlp(h)): OLMo 2's reordered norm (section 3.2, equations 1 and 2)."""

    def __init__(self, config: Model, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        h = x_BTD + self.attention_norm(self.attention(x_BTD, cos, sin, mask, cache))
        out: Tensor = h + self.mlp_norm(self.mlp(h))
        return out


def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """N(0, std) cut at three standard deviations, by the inverse CDF: one draw per element, so order alone decides."""
    low, high = math.erf(-3 / math.sqrt(2)), math.erf(3 / math.sqrt(2))
    with torch.no_grad():
        u = torch.rand(weight.shape, generator=generator, dtype=torch.float64) * (high - low) + low
        weight.copy_(torch.erfinv(u) * math.sqrt(2) * std)
