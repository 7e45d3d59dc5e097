"""OLMo 1: LayerNorm without weight and bias (section 2.1, and its released configuration)."""

from __future__ import annotations

from lehr.model.families.base import ModelFamily

FAMILY = ModelFamily(
    name="olmo",
    hf_class="OlmoForCausalLM",
    preset={"norm": "nonparametric", "norm_eps": 1e-5, "rope_theta": 10_000.0, "init": "mitchell"},
    fixed={"norm": "nonparametric", "norm_placement": "pre", "qk_norm": False, "qkv_bias": False, "norm_eps": 1e-5},
    hf_keys={"clip_qkv": ("clip_qkv", None)},
    hf_constants={"attention_bias": False},
    gguf_interleaved=True,
)
