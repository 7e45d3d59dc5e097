"""Granite 3.0 with experts: dropless top-k routing with a load-balancing loss and a z-loss (section 2, equations 1 to 5)."""

from __future__ import annotations

from lehr.model.families.base import MULTIPLIERS, RMS_PRE_NORM, ModelFamily

FAMILY = ModelFamily(
    name="granitemoe",
    hf_class="GraniteMoeForCausalLM",
    preset={"norm_eps": 1e-6, "rope_theta": 10_000.0, "tied_embeddings": True, "init": "mup", "init_std": 0.1},
    fixed=RMS_PRE_NORM,
    hf_keys={
        "norm_eps": ("rms_norm_eps", 1e-6),
        **{key: (key, 1.0) for key in MULTIPLIERS},
        "n_experts": ("num_local_experts", 8),
        "top_k": ("num_experts_per_tok", 2),
        "balance_loss": ("router_aux_loss_coef", 0.001),
    },
    hf_constants={"attention_bias": False},
    experts=True,
    gguf_interleaved=True,
)
