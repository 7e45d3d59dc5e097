"""`config.json` of Hugging Face, from our architecture and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from lehr.config.model import Model, checked
from lehr.model.families import FAMILIES
from lehr.model.families.base import MULTIPLIERS
from lehr.runtime.errors import UserError

CLASSES = {name: family.hf_class for name, family in FAMILIES.items()}
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
    family = FAMILIES[config.family]
    for key, value in family.fixed.items():
        if getattr(config, key) != value:
            raise UserError(
                f"{family.hf_class} cannot express {key}={getattr(config, key)} (it has {value})",
                remedy="keep the family's own switches for models that are to be exported",
            )
    scaled = [k for k in MULTIPLIERS if getattr(config, k) not in (1.0, None)]
    if scaled and not family.multiplied:
        raise UserError(f"{family.hf_class} has no {scaled[0]}", remedy="leave it out, or take the family granite")
    if bool(config.n_experts) != family.experts:
        raise UserError(f"{family.hf_class} with n_experts={config.n_experts}", remedy="experts: granitemoe alone")
    if config.rope_fraction != 1.0 and family.rotary_share is None:
        raise UserError(f"{family.hf_class} has no partial RoPE (rope_fraction={config.rope_fraction})", remedy="set it to 1")


def hf_config(config: Model, *, eos: int, pad: int, bos: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    """`config.json` for `config`. `eos`, `pad`, `bos` are token ids. Raises UserError as `check_family`."""
    check_family(config)
    family = FAMILIES[config.family]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    out: dict[str, Any] = {
        "architectures": [family.hf_class],
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
    if family.rotary_share is not None:
        rope["partial_rotary_factor"] = out["partial_rotary_factor"] = config.rope_fraction
    out |= family.hf_constants
    out |= {theirs: getattr(config, ours) for ours, (theirs, _) in family.hf_keys.items()}
    if family.multiplied:
        out["attention_multiplier"] = config.attention_multiplier or config.head_dim**-0.5
    # transformers 5 reads rope_parameters, 4 reads rope_theta: both say the same.
    return {**out, "rope_theta": config.rope_theta, "rope_parameters": rope}


def model_from_hf(hf: Mapping[str, Any]) -> Model:
    """The architecture that a `config.json` describes; a key that is absent has the default of the family's class. Raises
    UserError for what we do not build, naming it."""
    family = hf.get("model_type")
    if not isinstance(family, str) or family not in CLASSES:
        known = ", ".join(sorted(CLASSES))
        raise UserError(f"model_type {family!r:.80} is none that Lehr builds", remedy=f"import one of: {known}")
    _refuse(hf)
    missing = next((theirs for theirs in _RENAMED.values() if theirs not in hf and theirs != "num_key_value_heads"), None)
    if missing:
        raise UserError(f"there is no {missing!r}", remedy="give the model's complete configuration")
    values: dict[str, Any] = {ours: hf.get(theirs) for ours, theirs in _RENAMED.items()}
    if values["n_kv_heads"] is None:
        values["n_kv_heads"] = values["n_heads"]
    values["family"] = family
    values |= {ours: hf.get(theirs, default) for ours, (theirs, default) in class_defaults(family).items()}
    tables = _rope_tables(hf)
    values["rope_theta"] = _one_value("rope_theta", 10_000.0, hf, *tables)
    share = FAMILIES[family].rotary_share
    fraction = _one_value("partial_rotary_factor", 1.0 if share is None else share, hf, *tables)
    if share is not None:
        values["rope_fraction"] = fraction
    elif fraction != 1.0:
        _unsupported(f"partial_rotary_factor {fraction!r:.80}")
    if FAMILIES[family].experts and values["balance_loss"] is None:
        values["balance_loss"] = 0.0
    return checked(values, "", "mend the configuration")


def class_defaults(family: str) -> dict[str, tuple[str, Any]]:
    """What a `config.json` of the family may leave out, beside its sizes and RoPE: our key, theirs, and the class's default
    (transformers' configuration classes, to which a test holds these)."""
    return {
        "tied_embeddings": ("tie_word_embeddings", False),
        "init_std": ("initializer_range", 0.02),
        **FAMILIES[family].hf_keys,
    }


def _unsupported(what: str) -> NoReturn:
    raise UserError(f"the model has {what}, which Lehr does not build", remedy="import a model without it")


def _rope_tables(hf: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables that say something of RoPE, wherever they stand. Raises UserError for anything in them but the default type, a
    base and a fraction."""
    tables = []
    for key in ("rope_scaling", "rope_parameters"):
        table = hf.get(key)
        if table is None:
            continue
        if not isinstance(table, dict):
            _unsupported(f"{key} {table!r:.80}")
        for name, value in table.items():
            if name in ("rope_type", "type"):
                if value not in ("default", None):
                    _unsupported(f"rope scaling {value!r:.80} ({key})")
            elif name not in ("rope_theta", "partial_rotary_factor") and value is not None:
                _unsupported(f"{key}.{name:.80} = {value!r:.80}")
        tables.append(table)
    return tables


def _one_value(name: str, default: float, *tables: Mapping[str, Any]) -> Any:
    """What the tables say of `name`: releases of transformers read it at different places. Raises UserError if they differ."""
    found = [table[name] for table in tables if table.get(name) is not None]
    if any(value != found[0] for value in found):
        what = f"{name} is {found[0]!r:.80} at one place and {next(v for v in found if v != found[0])!r:.80} at another"
        raise UserError(what, remedy="leave the one that is true")
    return found[0] if found else default


def _refuse(hf: Mapping[str, Any]) -> None:
    """Switches of these classes that we do not build."""
    refused = {
        "attention_bias": bool(hf.get("attention_bias")),
        "mlp_bias": bool(hf.get("mlp_bias")),
        "use_parallel_residual": bool(hf.get("use_parallel_residual")),
        "qk_layernorm": bool(hf.get("qk_layernorm")),
        "quantization_config": bool(hf.get("quantization_config")),
        f"hidden_act {hf.get('hidden_act')!r:.80}": hf.get("hidden_act", "silu") not in ("silu", "swish"),
        "a head_dim of its own": hf.get("head_dim") not in (None, _head_dim(hf)),
    }
    for what, present in refused.items():
        if present:
            _unsupported(what)


def _head_dim(hf: Mapping[str, Any]) -> int | None:
    width, heads = hf.get("hidden_size"), hf.get("num_attention_heads")
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
