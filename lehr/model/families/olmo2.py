"""OLMo 2: RMSNorm on the outputs of the sub-layers, QK-norm, RoPE base 5e5 (section 2.1 and Table 1)."""

from __future__ import annotations

from lehr.model.families.base import RMS_PRE_NORM, ModelFamily

FAMILY = ModelFamily(
    name="olmo2",
    hf_class="Olmo2ForCausalLM",
    preset={"norm_placement": "output", "qk_norm": True, "norm_eps": 1e-6, "rope_theta": 500_000.0},
    fixed={**RMS_PRE_NORM, "norm_placement": "output", "qk_norm": True},
    hf_keys={"norm_eps": ("rms_norm_eps", 1e-5)},
    hf_constants={"attention_bias": False},
    gguf_ties_head=False,
)
