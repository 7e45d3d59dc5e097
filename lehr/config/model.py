"""Architecture: one set of switches that covers the five families, and each family's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.model.families import FAMILIES
from lehr.runtime.errors import UserError, validators_words

Family = Literal["olmo", "olmo2", "granite", "granitemoe", "stablelm"]


class Model(Config):
    """Architecture. `family` names the Hugging Face class with which weights are exchanged, and presets the switches below."""

    family: Family = "olmo2"
    vocab_size: Positive  # rows of the embedding, padding rows included
    n_layers: Positive
    d_model: Positive
    n_heads: Positive
    n_kv_heads: Positive
    mlp_hidden: Positive  # width of the gated MLP, of one expert if there are experts
    max_seq_len: Positive
    norm: Literal["rmsnorm", "layernorm", "nonparametric"] = "rmsnorm"  # nonparametric: LayerNorm without weight and bias
    norm_placement: Literal["pre", "output"] = "pre"  # before each sub-layer, or on its output (OLMo 2 section 2.1)
    norm_eps: PositiveFloat = 1e-6
    qk_norm: bool = False  # RMSNorm over the whole query and key projections, before RoPE
    clip_qkv: PositiveFloat | None = None  # clamp queries, keys and values to this, before RoPE (OLMo 0424)
    qkv_bias: bool = False
    rope_theta: PositiveFloat = 10_000.0
    rope_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of each head's dimensions that RoPE rotates
    tied_embeddings: bool = False
    embedding_multiplier: PositiveFloat = 1.0
    residual_multiplier: PositiveFloat = 1.0  # of each sub-layer's output
    attention_multiplier: PositiveFloat | None = None  # scale of the scores; None: 1/sqrt(head size)
    logits_scaling: PositiveFloat = 1.0  # the logits' divisor
    n_experts: NonNegative = 0  # 0: a dense MLP
    top_k: NonNegative = 0  # experts for each token
    balance_loss: NonNegativeFloat = 0.01  # weight of the load-balancing loss (Granite 3.0 equation 4)
    router_z_loss: NonNegativeFloat = 0.001  # weight of the router's z-loss (Granite 3.0 equation 5)
    init: Literal["normal", "scaled", "mitchell", "mup"] = "normal"
    init_std: PositiveFloat = 0.02
    mup_base_width: NonNegative = 0  # muP's learning rates and multipliers are relative to this width; 0: no muP

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def rotary_dim(self) -> int:
        """Dimensions of a head that RoPE rotates."""
        return int(self.head_dim * self.rope_fraction)

    @property
    def width_multiplier(self) -> float:
        """muP's m_width = d_model / base width; 1 without muP (Granite 3.0 Table 2)."""
        return self.d_model / self.mup_base_width if self.mup_base_width else 1.0

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        family = FAMILIES.get(str(data.get("family", "olmo2")))
        return {**family.preset, **data} if family else data

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}; change one of them")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}; change one of them")
        if self.rotary_dim % 2 or not self.rotary_dim:
            raise ValueError(
                f"rope_fraction={self.rope_fraction} of head size d_model/n_heads={self.head_dim} is {self.rotary_dim} "
                "dimensions, and RoPE rotates pairs; make it even"
            )
        return self

    @model_validator(mode="after")
    def _experts(self) -> Model:
        if self.n_experts and not 1 <= self.top_k <= self.n_experts:
            raise ValueError(f"top_k={self.top_k} is not between 1 and n_experts={self.n_experts}; change one of them")
        if self.top_k and not self.n_experts:
            raise ValueError(f"top_k={self.top_k} with n_experts=0; set n_experts, or leave top_k out")
        if FAMILIES[self.family].experts and not self.n_experts:
            raise ValueError(f"n_experts=0 in the family {self.family}; set n_experts and top_k, or take another family")
        return self


def checked(values: Any, where: str | Path, remedy: str) -> Model:
    """The architecture described by `values` from outside. Raises UserError, naming the key, if they do not describe one."""
    try:
        return Model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the sizes"
        raise UserError(f"{key}: {validators_words(first['msg'])}", where=where, remedy=remedy) from None
    except OverflowError:
        raise UserError("a size is beyond what Python can represent", where=where, remedy=remedy) from None
