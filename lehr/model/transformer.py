"""The transformer. Shapes: B batch, T positions, S positions in the cache, D model width, V vocabulary, R rotary dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.config.model import Model
from lehr.model.attention import Documents, Mask
from lehr.model.init import initial_
from lehr.model.layers import Block, KVCache, Norm, rope_tables, scaled
from lehr.model.moe import Routing


def _embedding(rows: int, width: int) -> nn.Embedding:
    if torch.get_default_device().type == "meta":
        # Nothing to fill, and drawing normal numbers on this device makes torch import its compiler: two seconds of a core.
        embed: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)  # type: ignore[no-untyped-call]
        return embed
    return nn.Embedding(rows, width)


class Backbone(nn.Module):
    """The decoder described by `config`, without a head: embedding, blocks and the final norm. `hidden` returns the normed
    states."""

    keeps_cache = True  # whether `hidden` takes one
    cos: Tensor  # (max_seq_len, R), like sin: rotary tables, recomputed and not saved
    sin: Tensor

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.config = config
        self.embed = _embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.n_layers))
        self.norm = Norm(config.d_model, config)
        cos, sin = rope_tables(config.rotary_dim, config.max_seq_len, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(
        self,
        tokens_BT: Tensor,
        cache: KVCache | None = None,
        routing: list[Routing] | None = None,
        begins_BT: Tensor | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """Final normed states, (B, T, D). With `cache`, `tokens_BT` are the next columns and the cache grows by T.

        `routing`, if given, receives each layer's routing statistics. `begins_BT` is true where a document begins: documents
        then do not attend to each other, and positions count from each one's beginning. `documents` says the same of a single
        row, which needs no mask: the cheaper way where documents are much shorter than the row.
        """
        mask: Mask = None
        if cache is not None:
            cos, sin, mask = self._cached_positions(tokens_BT, cache)
        elif begins_BT is not None:
            cos, sin, mask = self._document_positions(begins_BT)
        elif documents is not None:
            position_T = torch.cat([torch.arange(length) for length in documents.lengths]).to(tokens_BT.device)
            cos, sin, mask = self.cos[position_T], self.sin[position_T], documents
        else:
            T = tokens_BT.shape[1]
            cos, sin = self.cos[:T], self.sin[:T]
        x = scaled(self.embed(tokens_BT), self.config.embedding_multiplier)
        for layer in self.layers:
            x = layer(x, cos, sin, mask, cache, routing)
        if cache is not None:
            cache.used += tokens_BT.shape[1]
        out: Tensor = self.norm(x)
        return out

    def newest(self, tokens_BT: Tensor, cache: KVCache) -> Tensor:
        """Only the last column's final normed state, (B, D); the cache grows by all T columns. This is all that decoding needs
        of a prompt: for the other columns the last block only computes keys and values."""
        cos, sin, mask = self._cached_positions(tokens_BT, cache)
        x = scaled(self.embed(tokens_BT), self.config.embedding_multiplier)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, cos, sin, mask, cache, None, number == len(self.layers))
        cache.used += tokens_BT.shape[1]
        out: Tensor = self.norm(x[:, -1])
        return out

    def _cached_positions(self, tokens_BT: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """RoPE tables (B, 1, T, R) and additive mask (B, 1, T, S) from column `first` on: a row attends to its own columns."""
        T = tokens_BT.shape[1]
        column_S = torch.arange(cache.first, cache.used + T, device=tokens_BT.device)
        if T == 1:  # all columns precede it: the same result in fewer calls
            # Clamped: a row whose answer filled the context decodes on, in vain, until it is dropped or refilled.
            position_B = (cache.used - cache.start_B).clamp(max=len(self.cos) - 1)
            unseen = column_S < cache.start_B[:, None]
            mask = torch.zeros(unseen.shape, dtype=self.cos.dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))
            return self.cos[position_B][:, None, None], self.sin[position_B][:, None, None], mask[:, None, None]
        column_T = torch.arange(cache.used, cache.used + T, device=tokens_BT.device)
        position_BT = (column_T[None, :] - cache.start_B[:, None]).clamp(min=0)
        seen = (column_S[None, None, :] <= column_T[None, :, None]) & (column_S[None, None, :] >= cache.start_B[:, None, None])
        # A padding column has nothing to attend to: let it attend to itself, since a softmax over nothing but -inf is NaN.
        seen |= column_S[None, None, :] == column_T[None, :, None]
        mask = torch.zeros(seen.shape, dtype=self.cos.dtype, device=tokens_BT.device).masked_fill_(~seen, float("-inf"))
        return self.cos[position_BT][:, None], self.sin[position_BT][:, None], mask[:, None]

    def _document_positions(self, begins_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """RoPE tables (B, 1, T, R) and additive mask (B, 1, T, T): causal, and only within a document."""
        column_T = torch.arange(begins_BT.shape[1], device=begins_BT.device)
        start_BT = torch.where(begins_BT, column_T, 0).cummax(dim=1).values
        position_BT = column_T - start_BT
        # A query attends to keys at or before it, from the beginning of its own document on.
        seen = (column_T[None, None, :] <= column_T[None, :, None]) & (column_T[None, None, :] >= start_BT[:, :, None])
        mask = torch.zeros(seen.shape, dtype=self.cos.dtype, device=begins_BT.device).masked_fill_(~seen, float("-inf"))
        return self.cos[position_BT][:, None], self.sin[position_BT][:, None], mask[:, None]


class Transformer(Backbone):
    """A decoder-only language model.

    `logits` applies the head to any of `hidden`'s states, `forward` to all of them: a loss over few positions computes only a
    few logits.
    """

    def __init__(self, config: Model) -> None:
        super().__init__(config)
        self.head = None if config.tied_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> Transformer:
        """Fill every matrix by the architecture's scheme (`lehr.model.init`), truncated at 3 std; norm weights 1, biases 0."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            initial_(parameter, name, self.config, generator)
        return self

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        out: Tensor = F.linear(hidden, self.embed.weight) if self.head is None else self.head(hidden)
        return scaled(out, 1 / self.config.logits_scaling)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V); causal."""
        return self.logits(self.hidden(tokens_BT))
