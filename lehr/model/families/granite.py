"""Granite 3.0, dense: muP's multipliers, tied embeddings (section 2 and Table 2)."""

from __future__ import annotations

from lehr.model.families.base import MULTIPLIERS, RMS_PRE_NORM, ModelFamily

FAMILY = ModelFamily(
    name="granite",
    hf_class="GraniteForCausalLM",
    preset={"norm_eps": 1e-5, "rope_theta": 10_000.0, "tied_embeddings": True, "init": "mup", "init_std": 0.1},
    fixed=RMS_PRE_NORM,
    hf_keys={"norm_eps": ("rms_norm_eps", 1e-6), **{key: (key, 1.0) for key in MULTIPLIERS}},
    hf_constants={"attention_bias": False},
    gguf_interleaved=True,
)
