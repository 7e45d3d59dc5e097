"""Names and layouts of weights: ours and Hugging Face's `Olmo2ForCausalLM`. Both ways, without transformers.

Both sides use the half-rotation RoPE convention, so matrices are only cut and joined, never permuted.
Row blocks of our joined matrices: `qkv` is query, key, value; `gate_up` is gate, up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lehr.config.recipe import Model
from lehr.errors import UserError

# Ours -> theirs, for tensors that only change their name; `{i}` is the layer.
_LAYER = {
    "attention.q_norm.weight": "self_attn.q_norm.weight",
    "attention.k_norm.weight": "self_attn.k_norm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "attention_norm.weight": "post_attention_layernorm.weight",
    "mlp.down.weight": "mlp.down_proj.weight",
    "mlp_norm.weight": "post_feedforward_layernorm.weight",
}
_TOP = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight", "head.weight": "lm_head.weight"}


def _joined(config: Model) -> dict[str, list[tuple[str, int]]]:
    """Our joined matrices of a layer: their parts on the other side, in order, with their rows."""
    q, kv, f = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim, config.mlp_hidden
    return {
        "attention.qkv.weight": [
            ("self_attn.q_proj.weight", q),
            ("self_attn.k_proj.weight", kv),
            ("self_attn.v_proj.weight", kv),
        ],
        "mlp.gate_up.weight": [("mlp.gate_proj.weight", f), ("mlp.up_proj.weight", f)],
    }


def _expected(config: Model) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor on our side."""
    d, v, f = config.d_model, config.vocab_size, config.mlp_hidden
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (v, d), "norm.weight": (d,)}
    if not config.tied_embeddings:
        shapes["head.weight"] = (v, d)
    for i in range(config.n_layers):
        shapes |= {
            f"layers.{i}.attention.qkv.weight": (q + 2 * kv, d),
            f"layers.{i}.attention.q_norm.weight": (q,),
            f"layers.{i}.attention.k_norm.weight": (kv,),
            f"layers.{i}.attention.out.weight": (d, q),
            f"layers.{i}.attention_norm.weight": (d,),
            f"layers.{i}.mlp.gate_up.weight": (2 * f, d),
            f"layers.{i}.mlp.down.weight": (d, f),
            f"layers.{i}.mlp_norm.weight": (d,),
        }
    return shapes


def _check(state: dict[str, Tensor], config: Model) -> None:
    """Every tensor there, none beside them, each of its shape: else UserError names the first that is not."""
    expected = _expected(config)
    remedy = "give weights of the same architecture as the model section of the recipe"
    for name, shape in expected.items():
        if name not in state:
            raise UserError(f"tensor {name} is missing", remedy=remedy)
        if tuple(state[name].shape) != shape:
            raise UserError(f"tensor {name} has shape {tuple(state[name].shape)} instead of {shape}", remedy=remedy)
    for name in state:
        if name not in expected:
            raise UserError(f"tensor {name} has no place in this model", remedy=remedy)


def to_hf_state(state: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """Our state dict as `Olmo2ForCausalLM`'s: same numbers and dtype, contiguous copies that share no memory.

    Raises UserError where a tensor is missing, superfluous or of another shape.
    """
    _check(state, config)
    out = {theirs: state[ours].detach().clone() for ours, theirs in _TOP.items() if ours in state}
    for i in range(config.n_layers):
        for ours, theirs in _LAYER.items():
            out[f"model.layers.{i}.{theirs}"] = state[f"layers.{i}.{ours}"].detach().clone()
        for ours, parts in _joined(config).items():
            blocks = torch.split(state[f"layers.{i}.{ours}"].detach(), [rows for _, rows in parts])
            for (theirs, _), block in zip(parts, blocks, strict=True):
                out[f"model.layers.{i}.{theirs}"] = block.clone()
    return out


def from_hf_state(hf: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """`Olmo2ForCausalLM`'s state dict as ours; the inverse of `to_hf_state`. Raises UserError as it does."""
    hf = dict(hf)
    if config.tied_embeddings:
        hf.pop("lm_head.weight", None)  # transformers lists the tied head a second time

    def take(name: str) -> Tensor:
        if name not in hf:
            raise UserError(f"tensor {name} is missing", remedy="give the weights of an Olmo2ForCausalLM of this size")
        return hf.pop(name).detach().clone()

    out = {ours: take(theirs) for ours, theirs in _TOP.items() if not (ours == "head.weight" and config.tied_embeddings)}
    for i in range(config.n_layers):
        prefix = f"model.layers.{i}"
        for ours, theirs in _LAYER.items():
            out[f"layers.{i}.{ours}"] = take(f"{prefix}.{theirs}")
        for ours, parts in _joined(config).items():
            out[f"layers.{i}.{ours}"] = torch.cat([take(f"{prefix}.{theirs}") for theirs, _ in parts])
    if hf:
        raise UserError(
            f"tensor {min(hf)} has no place in this model", remedy="give the weights of an Olmo2ForCausalLM of this size"
        )
    _check(out, config)
    return out


def hf_config(config: Model, *, eos: int, pad: int, bos: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    """`config.json` of an `Olmo2ForCausalLM`. `eos`, `pad`, `bos` are token ids; OLMo 2 has no BOS."""
    return {
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.mlp_hidden,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "initializer_range": config.init_std,
        "rms_norm_eps": config.norm_eps,
        # transformers 5 reads rope_parameters, 4 reads rope_theta: both say the same.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tied_embeddings,
        "use_cache": True,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
