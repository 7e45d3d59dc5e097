"""`config.json` of Hugging Face, from our architecture and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lehr.config.model import Model
from lehr.errors import UserError

CLASSES = {
    "olmo": "OlmoForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM",
    "stablelm": "StableLmForCausalLM",
}
# Switches that the class of a family has built in: a model that sets them otherwise is none of that class.
_PLAIN: dict[str, Any] = {"norm": "rmsnorm", "norm_placement": "pre", "qk_norm": False, "qkv_bias": False, "clip_qkv": None}
_FIXED: dict[str, dict[str, Any]] = {
    "olmo": {"norm": "nonparametric", "norm_placement": "pre", "qk_norm": False, "qkv_bias": False, "norm_eps": 1e-5},
    "olmo2": {**_PLAIN, "norm_placement": "output", "qk_norm": True},
    "granite": _PLAIN,
    "granitemoe": _PLAIN,
    "stablelm": {"norm": "layernorm", "norm_placement": "pre", "qk_norm": False, "clip_qkv": None},
}
_MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
_RENAMED = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "mlp_hidden": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "max_seq_len": "max_position_embeddings",
}


def check_family(config: Model) -> None:
    """Raises UserError if `config` sets a switch that its family's class cannot express."""
    for key, value in _FIXED[config.family].items():
        if getattr(config, key) != value:
            raise UserError(
                f"{CLASSES[config.family]} cannot express {key}={getattr(config, key)} (it has {value})",
                remedy="keep the family's own switches for models that are to be exported",
            )
    scaled = [k for k in _MULTIPLIERS if getattr(config, k) not in (1.0, None)]
    if scaled and not config.family.startswith("granite"):
        raise UserError(f"{CLASSES[config.family]} has no {scaled[0]}", remedy="leave it out, or take the family granite")
    if bool(config.n_experts) != (config.family == "granitemoe"):
        raise UserError(f"{CLASSES[config.family]} with n_experts={config.n_experts}", remedy="experts: granitemoe alone")
    if config.rope_fraction != 1.0 and config.family != "stablelm":
        raise UserError(
            f"{CLASSES[config.family]} has no partial RoPE (rope_fraction={config.rope_fraction})", remedy="set it to 1"
        )


def hf_config(config: Model, *, eos: int, pad: int, bos: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    """`config.json` for `config`. `eos`, `pad`, `bos` are token ids. Raises UserError as `check_family`."""
    check_family(config)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    out: dict[str, Any] = {
        "architectures": [CLASSES[config.family]],
        "model_type": config.family,
        **{theirs: getattr(config, ours) for ours, theirs in _RENAMED.items()},
        "hidden_act": "silu",
        "initializer_range": config.init_std,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tied_embeddings,
        "use_cache": True,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if config.family == "stablelm":
        rope["partial_rotary_factor"] = config.rope_fraction
        out |= {"layer_norm_eps": config.norm_eps, "use_qkv_bias": config.qkv_bias, "qk_layernorm": False}
        out |= {"partial_rotary_factor": config.rope_fraction, "use_parallel_residual": False, "hidden_dropout": 0.0}
    else:
        out["attention_bias"] = False
        if config.family == "olmo":
            out["clip_qkv"] = config.clip_qkv
        else:
            out["rms_norm_eps"] = config.norm_eps
    if config.family.startswith("granite"):
        out |= {key: getattr(config, key) for key in _MULTIPLIERS}
        out["attention_multiplier"] = config.attention_multiplier or config.head_dim**-0.5
    if config.n_experts:
        out |= {"num_local_experts": config.n_experts, "num_experts_per_tok": config.top_k}
        out["router_aux_loss_coef"] = config.balance_loss
    # transformers 5 reads rope_parameters, 4 reads rope_theta: both say the same.
    return {**out, "rope_theta": config.rope_theta, "rope_parameters": rope}


def model_from_hf(hf: Mapping[str, Any]) -> Model:
    """The architecture that a `config.json` describes. Raises UserError for what we do not build, naming it."""
    family = hf.get("model_type")
    if family not in CLASSES:
        known = ", ".join(sorted(CLASSES))
        raise UserError(f"model_type {family!r} is none that Lehr builds", remedy=f"import one of: {known}")
    _refuse(hf)
    missing = next((theirs for theirs in _RENAMED.values() if theirs not in hf and theirs != "num_key_value_heads"), None)
    if missing:
        raise UserError(f"there is no {missing!r}", remedy="give the model's complete configuration")
    values: dict[str, Any] = {ours: hf.get(theirs) for ours, theirs in _RENAMED.items()}
    values["n_kv_heads"] = values["n_kv_heads"] or values["n_heads"]
    rope = hf.get("rope_parameters") or {}
    values["family"] = family
    values["rope_theta"] = float(rope.get("rope_theta", hf.get("rope_theta", 10_000.0)))
    values["tied_embeddings"] = bool(hf.get("tie_word_embeddings", False))
    if hf.get("initializer_range"):
        values["init_std"] = float(hf["initializer_range"])
    if family == "stablelm":
        values["rope_fraction"] = float(rope.get("partial_rotary_factor", hf.get("partial_rotary_factor", 0.25)))
        values |= {"norm_eps": float(hf.get("layer_norm_eps", 1e-5)), "qkv_bias": bool(hf.get("use_qkv_bias", False))}
    elif family == "olmo":
        values["clip_qkv"] = None if hf.get("clip_qkv") is None else float(hf["clip_qkv"])
    else:
        values["norm_eps"] = float(hf.get("rms_norm_eps", 1e-6 if family == "granitemoe" else 1e-5))
    if family.startswith("granite"):
        values |= {key: float(hf.get(key, 1.0)) for key in _MULTIPLIERS}
    if family == "granitemoe":
        values |= {"n_experts": hf.get("num_local_experts", 8), "top_k": hf.get("num_experts_per_tok", 2)}
        values["balance_loss"] = float(hf.get("router_aux_loss_coef") or 0.0)
    try:
        return Model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the sizes"
        raise UserError(f"{key}: {first['msg']}", remedy="mend the configuration") from None


def _refuse(hf: Mapping[str, Any]) -> None:
    """Features of these classes that we do not build."""
    scaling = hf.get("rope_scaling") or {}
    rope_type = (hf.get("rope_parameters") or {}).get("rope_type", scaling.get("rope_type", scaling.get("type", "default")))
    refused = {
        f"rope scaling {rope_type!r}": rope_type != "default",
        "attention_bias": bool(hf.get("attention_bias")),
        "use_parallel_residual": bool(hf.get("use_parallel_residual")),
        "qk_layernorm": bool(hf.get("qk_layernorm")),
        f"hidden_act {hf.get('hidden_act')!r}": hf.get("hidden_act", "silu") not in ("silu", "swish"),
        "a head_dim of its own": hf.get("head_dim") not in (None, _head_dim(hf)),
    }
    for what, present in refused.items():
        if present:
            raise UserError(f"the model has {what}, which Lehr does not build", remedy="import a model without it")


def _head_dim(hf: Mapping[str, Any]) -> int | None:
    width, heads = hf.get("hidden_size"), hf.get("num_attention_heads")
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
