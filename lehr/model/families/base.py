"""What sets a model family apart: its presets, and Hugging Face's and llama.cpp's names for its switches. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")


@dataclass(frozen=True)
class ModelFamily:
    """`name` is a recipe's `model.family`, Hugging Face's `model_type` and llama.cpp's architecture.

    `preset` are the keys of `model` that the family sets where a recipe says nothing, `fixed` those that its class has built
    in: a model that sets them otherwise is not of that class. `hf_keys` are those that `config.json` may leave out beside sizes
    and RoPE: our key, theirs, and the default of transformers' configuration class. `hf_constants` are written as they are.
    """

    name: str
    hf_class: str
    preset: Mapping[str, Any]
    fixed: Mapping[str, Any]
    hf_keys: Mapping[str, tuple[str, Any]]
    hf_constants: Mapping[str, Any] = field(default_factory=dict)
    experts: bool = False
    rotary_share: float | None = None  # the class's default share of a head that RoPE turns; None: always the whole head
    # llama.cpp turns the pairs (x[2i], x[2i + 1]), as Llama does, and not (x[i], x[i + R/2]) as we do: rows are permuted.
    gguf_interleaved: bool = False
    gguf_ties_head: bool = True  # else llama.cpp wants a tied head written twice
    gguf_constants: Mapping[str, Any] = field(default_factory=dict)  # methods of gguf.GGUFWriter and their argument

    @property
    def multiplied(self) -> bool:
        """Whether embedding, residual stream, scores and logits have factors of their own."""
        return MULTIPLIERS[0] in self.hf_keys


RMS_PRE_NORM: Mapping[str, Any] = {
    "norm": "rmsnorm",
    "norm_placement": "pre",
    "qk_norm": False,
    "qkv_bias": False,
    "clip_qkv": None,
}
