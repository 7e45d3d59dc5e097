"""Stable LM 2: LayerNorm, biases in queries, keys and values only, RoPE on a quarter of each head (section 2.4)."""

from __future__ import annotations

from lehr.model.families.base import ModelFamily

FAMILY = ModelFamily(
    name="stablelm",
    hf_class="StableLmForCausalLM",
    preset={
        "norm": "layernorm",
        "norm_eps": 1e-5,
        "qkv_bias": True,
        "rope_theta": 10_000.0,
        "rope_fraction": 0.25,
        "init": "scaled",
    },
    fixed={"norm": "layernorm", "norm_placement": "pre", "qk_norm": False, "clip_qkv": None},
    hf_keys={"norm_eps": ("layer_norm_eps", 1e-5), "qkv_bias": ("use_qkv_bias", False)},
    hf_constants={"qk_layernorm": False, "use_parallel_residual": False, "hidden_dropout": 0.0},
    rotary_share=0.25,
    gguf_ties_head=False,
    gguf_constants={"add_parallel_residual": False},
)
