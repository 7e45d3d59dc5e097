"""A model family's presets, and the names of its switches in Hugging Face and llama.cpp. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")


@dataclass(frozen=True)
class ModelFamily:
    """`name` is a recipe's `model.family`, Hugging Face's `model_type` and llama.cpp's architecture.

    `preset` are defaults of the recipe's `model` keys, `fixed` the values built into Hugging Face's class: a model with other
    values cannot be exported as that class. `hf_keys` are keys that `config.json` may omit, beside sizes and RoPE: our key,
    theirs, and the default of transformers' configuration class. `hf_constants` are written as they are.
    """

    name: str
    hf_class: str
    preset: Mapping[str, Any]
    fixed: Mapping[str, Any]
    hf_keys: Mapping[str, tuple[str, Any]]
    hf_constants: Mapping[str, Any] = field(default_factory=dict)
    experts: bool = False
    rotary_share: float | None = None  # the class's default share of a head that RoPE rotates; None: always the whole head
    # llama.cpp rotates pairs (x[2i], x[2i + 1]), as Llama does, and not (x[i], x[i + R/2]) as we do: rows are permuted on
    # export.
    gguf_interleaved: bool = False
    gguf_ties_head: bool = True  # False: llama.cpp needs a tied head written a second time
    gguf_constants: Mapping[str, Any] = field(default_factory=dict)  # methods of gguf.GGUFWriter and their arguments

    @property
    def multiplied(self) -> bool:
        """Whether embedding, residual stream, attention scores and logits have multipliers."""
        return MULTIPLIERS[0] in self.hf_keys


RMS_PRE_NORM: Mapping[str, Any] = {
    "norm": "rmsnorm",
    "norm_placement": "pre",
    "qk_norm": False,
    "qkv_bias": False,
    "clip_qkv": None,
}
