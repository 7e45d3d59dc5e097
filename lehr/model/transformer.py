"""The transformer. Shapes: B batch, T positions, S positions in the cache, D model width, V vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.recipe import Model
from lehr.model.layers import Block, KVCache, RMSNorm, rope_tables, truncated_normal_


class Transformer(nn.Module):
    """A decoder-only language model as `config` describes it.

    `hidden` gives the normed states, `logits` the head's output on any of them, `forward` both: losses that look at few
    positions pay for few logits.
    """

    cos: Tensor  # (max_seq_len, E), like sin: rotary tables, not part of the state
    sin: Tensor

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = None if config.tied_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        cos, sin = rope_tables(config.head_dim, config.max_seq_len, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> Transformer:
        """OLMo 2's initialisation (section 3.2.1): every matrix N(0, init_std) cut at 3 std, every norm weight one."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                truncated_normal_(parameter, self.config.init_std, generator)
            else:
                parameter.fill_(1.0)
        return self

    def hidden(self, tokens_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Final normed states, (B, T, D). With `cache`, `tokens_BT` are the next columns and the cache grows by T."""
        if cache is None:
            T = tokens_BT.shape[1]
            cos, sin, mask = self.cos[:T], self.sin[:T], None
        else:
            cos, sin, mask = self._cached_positions(tokens_BT, cache)
        x = self.embed(tokens_BT)
        for layer in self.layers:
            x = layer(x, cos, sin, mask, cache)
        if cache is not None:
            cache.used += tokens_BT.shape[1]
        out: Tensor = self.norm(x)
        return out

    def _cached_positions(self, tokens_BT: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """RoPE tables (B, 1, T, E) and additive mask (B, 1, T, S): a row sees its own columns from `start_B` on."""
        T = tokens_BT.shape[1]
        column_T = torch.arange(cache.used, cache.used + T, device=tokens_BT.device)
        column_S = torch.arange(cache.used + T, device=tokens_BT.device)
        position_BT = (column_T[None, :] - cache.start_B[:, None]).clamp(min=0)
        seen = (column_S[None, None, :] <= column_T[None, :, None]) & (column_S[None, None, :] >= cache.start_B[:, None, None])
        # A padded column has nothing to look at: let it see itself, or softmax gives NaN.
        seen |= column_S[None, None, :] == column_T[None, :, None]
        mask = torch.zeros(seen.shape, dtype=self.cos.dtype, device=tokens_BT.device).masked_fill_(~seen, float("-inf"))
        return self.cos[position_BT][:, None], self.sin[position_BT][:, None], mask[:, None]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        weight = self.embed.weight if self.head is None else self.head.weight
        return F.linear(hidden, weight)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V); causal."""
        return self.logits(self.hidden(tokens_BT))


def parameter_count(config: Model) -> int:
    """Parameters in closed form; equals the instantiated model's."""
    c = config
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    block = c.d_model * (q + 2 * kv) + q * c.d_model + q + kv + 3 * c.d_model * c.mlp_hidden + 2 * c.d_model
    return c.n_layers * block + c.d_model + c.vocab_size * c.d_model * (1 if c.tied_embeddings else 2)


def flops_per_token(config: Model, sequence_length: int) -> float:
    """Forward and backward: 6 for each matrix parameter, and the causal half of attention's two products."""
    c = config
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    matrices = c.n_layers * (c.d_model * (q + 2 * kv) + q * c.d_model + 3 * c.d_model * c.mlp_hidden) + c.vocab_size * c.d_model
    return 6.0 * matrices + 6.0 * c.n_layers * sequence_length * q
