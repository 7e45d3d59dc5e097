"""Layers of the transformer. Shapes: B batch, T positions of this call, S positions in the cache, D model width,
H query heads, K key/value heads, E head size, R rotary dimensions of a head, F gated MLP width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.attention import Mask, attention
from lehr.model.fused import rms_norm, rotate, swiglu
from lehr.model.moe import Experts, Routing


class Norm(nn.Module):
    """One of three: RMSNorm with weight (Zhang & Sennrich 2019), LayerNorm with weight and bias, LayerNorm with neither
    (OLMo 1 section 2.1). Computed in fp32 and cast back."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, width: int, config: Model, kind: str = "") -> None:
        super().__init__()
        self.kind, self.width, self.eps = kind or config.norm, width, config.norm_eps
        learned = self.kind != "nonparametric"
        self.weight = nn.Parameter(torch.ones(width)) if learned else None
        self.bias = nn.Parameter(torch.zeros(width)) if self.kind == "layernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rmsnorm" and self.weight is not None:
            return rms_norm(x, self.weight, self.eps)
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), (self.width,), weight, bias, self.eps).to(x.dtype)


def rope_tables(rotary_dim: int, length: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, each of shape (length, rotary_dim), half-rotation order (Su et al. 2021)."""
    frequencies = theta ** (-torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies[None, :]
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().float(), both.sin().float()


def scaled(x: Tensor, factor: float) -> Tensor:
    """x * factor, at no cost where the factor is one."""
    return x if factor == 1.0 else x * factor


class KVCache:
    """Keys and values of all layers for one batch of generations, in buffers of fixed size.

    Prompts of unequal length are padded on the LEFT, so that all rows append at the same column; `start_B` is each row's
    first real column, and positions count from there; columns before `first` belong to no row, so nothing looks at them.
    On CPU they are kept in fp32 whatever the model computes in: small products of bf16 with strided keys are four times
    slower there.
    """

    def __init__(self, config: Model, batch: int, length: int, start_B: Tensor, dtype: torch.dtype) -> None:
        shape = (config.n_layers, batch, config.n_kv_heads, length, config.head_dim)
        device = start_B.device
        dtype = torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype
        self.keys, self.values = torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device)
        self.start_B, self.first, self.used = start_B, 0, 0

    def begin_at(self, column: int) -> None:
        """Nothing is held and the next column is `column`. Those before it are zeros: a row that is taken over later may make
        others look at them with a weight of zero, which NaN would survive."""
        self.first = self.used = column
        self.keys[:, :, :, :column], self.values[:, :, :, :column] = 0, 0

    def keep_rows(self, rows: Tensor) -> None:
        """Drop finished generations: only `rows` (indices, in order) go on."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = torch.empty((old.shape[0], len(rows), *old.shape[2:]), dtype=old.dtype, device=old.device)
            written = slice(self.first, self.used)
            new[:, :, :, written] = old[:, rows, :, written]
            setattr(self, name, new)
        self.start_B = self.start_B[rows]
        self.first = int(self.start_B.min())


class Attention(nn.Module):
    """Multi-head or grouped-query attention. Between projection and RoPE, where the architecture has them: clamping (OLMo
    0424) and QK-norm over the whole projection (OLMo 2 section 3.3.2)."""

    def __init__(self, config: Model, layer: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.layer = config.n_heads, config.n_kv_heads, config.head_dim, layer
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.widths = [q_width, kv_width, kv_width]
        self.scale, self.clip = config.attention_multiplier or self.head_dim**-0.5, config.clip_qkv
        self.qkv = nn.Linear(config.d_model, sum(self.widths), bias=config.qkv_bias)
        self.q_norm = Norm(q_width, config, "rmsnorm") if config.qk_norm else None
        self.k_norm = Norm(kv_width, config, "rmsnorm") if config.qk_norm else None
        self.out = nn.Linear(q_width, config.d_model, bias=False)

    def forward(
        self, x_BTD: Tensor, cos: Tensor, sin: Tensor, mask: Mask, cache: KVCache | None, newest: bool = False
    ) -> Tensor:
        """Returns (B, T, D), or the last column's (B, 1, D) if `newest`, which needs a mask. `mask` is additive, (B, 1, T, S);
        without it attention is causal. With documents in its place B is 1."""
        B, T, _ = x_BTD.shape
        qkv = self.qkv(x_BTD)
        if self.clip is not None:
            qkv = qkv.clamp(-self.clip, self.clip)
        q, k, v = qkv.split(self.widths, dim=-1)
        if cache is not None and self.heads == self.kv_heads:
            q, k = self._at_once(qkv, cos, sin)
        else:
            if self.q_norm is not None and self.k_norm is not None:
                q, k = self.q_norm(q), self.k_norm(k)
            q = rotate(q.view(B, T, self.heads, self.head_dim).transpose(1, 2), cos, sin)
            k = rotate(k.view(B, T, self.kv_heads, self.head_dim).transpose(1, 2), cos, sin)
        v = v.view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        if cache is not None:
            end = cache.used + T
            cache.keys[self.layer, :, :, cache.used : end] = k
            cache.values[self.layer, :, :, cache.used : end] = v
            k, v = cache.keys[self.layer, :, :, cache.first : end], cache.values[self.layer, :, :, cache.first : end]
        if newest and isinstance(mask, Tensor):
            q, mask, T = q[:, :, -1:], mask[:, :, -1:], 1  # keys and values of all columns are in the cache by now
        y = attention(q, k, v, self.scale, mask)
        out: Tensor = self.out(y.transpose(1, 2).reshape(B, T, -1))
        return out

    def _at_once(self, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, (B, H, T, E) each, normed and rotated in one call, since decoding is dominated by small calls."""
        B, T, _ = qkv.shape
        both = qkv[..., : 2 * self.widths[0]].view(B, T, 2, self.widths[0])
        if self.q_norm is not None and self.k_norm is not None:
            weights = self.q_norm.weight, self.k_norm.weight
            assert weights[0] is not None and weights[1] is not None
            both = rms_norm(both, torch.stack([weights[0], weights[1]]), self.q_norm.eps)
        both = rotate(both.view(B, T, 2 * self.heads, self.head_dim).transpose(1, 2), cos, sin)
        return both[:, : self.heads], both[:, self.heads :]


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020), gate and up in one matrix product."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.mlp_hidden, bias=False)
        self.down = nn.Linear(config.mlp_hidden, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down(swiglu(self.gate_up(x_BTD)))
        return out


class Block(nn.Module):
    """Attention, then MLP or experts, each added to the residual stream.

    Pre-norm: h = x + r attention(norm(x)); y = h + r mlp(norm(h)), with r the residual multiplier. OLMo 2 norms the
    sub-layers' outputs instead: h = x + norm(attention(x)); y = h + norm(mlp(h)) (OLMo 2 section 3.3.2 and its code;
    its equation 2 prints mlp(x)).
    """

    def __init__(self, config: Model, layer: int) -> None:
        super().__init__()
        self.before, self.scale = config.norm_placement == "pre", config.residual_multiplier
        self.attention = Attention(config, layer)
        self.attention_norm = Norm(config.d_model, config)
        self.mlp = Experts(config) if config.n_experts else MLP(config)
        self.mlp_norm = Norm(config.d_model, config)

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Mask = None,
        cache: KVCache | None = None,
        routing: list[Routing] | None = None,
        newest: bool = False,
    ) -> Tensor:
        """`routing`, if given, receives this block's routing statistics if it has experts. If `newest`, only the last column's
        state is returned, (B, 1, D): see Transformer.newest."""
        kept = x_BTD[:, -1:] if newest else x_BTD
        if self.before:
            h = kept + scaled(self.attention(self.attention_norm(x_BTD), cos, sin, mask, cache, newest), self.scale)
            return h + scaled(self._mlp(self.mlp_norm(h), routing), self.scale)
        h = kept + scaled(self.attention_norm(self.attention(x_BTD, cos, sin, mask, cache, newest)), self.scale)
        return h + scaled(self.mlp_norm(self._mlp(h, routing)), self.scale)

    def _mlp(self, x_BTD: Tensor, routing: list[Routing] | None) -> Tensor:
        out: Tensor = self.mlp(x_BTD) if routing is None or isinstance(self.mlp, MLP) else self.mlp(x_BTD, routing)
        return out
