"""Sizes of a model in closed form, without instantiating it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from lehr.config.model import Model
from lehr.runtime.errors import UserError

_LONGEST = 1 << 20  # positions: rotary tables are allocated for all of them, and the weights do not confirm their number


def check_fits(config: Model, shapes: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Raises UserError if `config`, read from `where`, is of another order of magnitude than weights with these shapes. Called
    before a model is made, so that a false size allocates no memory; the loader then compares every tensor's shape."""
    remedy = "give the configuration that belongs to these weights"
    held = sum(math.prod(shape) for shape in shapes.values())
    if config.n_layers > len(shapes) or parameter_count(config) > 2 * held:
        what = f"its sizes need far more than the {held:,} numbers in {len(shapes):,} tensors of the weights"
        raise UserError(what, where=where, remedy=remedy)
    if config.max_seq_len > _LONGEST:
        raise UserError(f"a context of more than {_LONGEST:,} positions", where=where, remedy="give it a shorter one")


def parameter_count(config: Model) -> int:
    """The number of parameters, equal to the instantiated model's."""
    return _outside(config) + config.n_layers * _block(config, config.n_experts)


def active_parameter_count(config: Model, *, embedding: bool = True) -> int:
    """The parameters used for one token: `top_k` of the experts. Without `embedding`, the input table is left out, from which a
    token only looks up a row (a tied head's table too: Granite 3.0 counts its 400M and 800M this way)."""
    active = _outside(config) + config.n_layers * _block(config, config.top_k)
    return active if embedding else active - config.vocab_size * config.d_model


def block_parameters(config: Model) -> int:
    """Parameters of one block, all experts included."""
    return _block(config, config.n_experts)


def _norm(width: int, config: Model) -> int:
    return width * {"rmsnorm": 1, "layernorm": 2, "nonparametric": 0}[config.norm]


def _outside(c: Model) -> int:
    return c.vocab_size * c.d_model * (1 if c.tied_embeddings else 2) + _norm(c.d_model, c)


def _attention_matrices(c: Model) -> int:
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    return c.d_model * (q + 2 * kv) + q * c.d_model


def _block(c: Model, experts: int) -> int:
    """The parameters of one block with `experts` experts (0: a dense MLP) and the whole router."""
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    vectors = (q + kv if c.qk_norm else 0) + (q + 2 * kv if c.qkv_bias else 0) + 2 * _norm(c.d_model, c)
    return _attention_matrices(c) + vectors + max(1, experts) * 3 * c.d_model * c.mlp_hidden + c.n_experts * c.d_model


def flops_per_token(config: Model, sequence_length: int) -> float:
    """Forward and backward: 6 for each matrix parameter used for a token, and the causal half of attention's two products
    (6 * layers * sequence length * query width)."""
    c = config
    mlp = max(1, c.top_k) * 3 * c.d_model * c.mlp_hidden + c.n_experts * c.d_model
    matrices = c.n_layers * (_attention_matrices(c) + mlp) + c.vocab_size * c.d_model
    return 6.0 * matrices + 6.0 * c.n_layers * sequence_length * c.n_heads * c.head_dim
