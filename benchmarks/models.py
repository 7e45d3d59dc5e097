"""The models that benchmarks share: OLMo 2's architecture at 4 and at 15 million parameters, ours and the peers'."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.nano_gpt import NanoGPT
from lehr.config.model import Model
from lehr.interop.hf_config import hf_config
from lehr.interop.hf_weights import to_hf_state
from lehr.model.transformer import Transformer

SIZES: dict[str, dict[str, int]] = {
    "4M": {"d_model": 256, "n_layers": 4, "n_heads": 4, "mlp_hidden": 704, "vocab_size": 4096},
    "15M": {"d_model": 384, "n_layers": 6, "n_heads": 6, "mlp_hidden": 1024, "vocab_size": 8192},
}


def config(size: str, length: int = 512) -> Model:
    """Our configuration of a size."""
    s = SIZES[size]
    return Model(n_kv_heads=s["n_heads"], max_seq_len=length, rope_theta=10_000.0, **s)


def ours(size: str, length: int = 512) -> Transformer:
    """Ours, freshly initialised, fp32."""
    return Transformer(config(size, length)).initialise(0)


def hugging_face(model: Transformer) -> Any:
    """Hugging Face's Olmo2 with the same weights."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    theirs = Olmo2ForCausalLM(Olmo2Config(**hf_config(model.config, eos=0, pad=1)))
    theirs.load_state_dict(to_hf_state(dict(model.named_parameters()), model.config))
    return theirs


def olmo_core(size: str) -> nn.Module | None:
    """OLMo-core's own OLMo 2 of the same sizes; None where the peers are not installed."""
    try:
        from olmo_core.nn.transformer import TransformerConfig
    except ImportError:
        return None
    s = SIZES[size]
    built = TransformerConfig.llama_like(
        d_model=s["d_model"], vocab_size=s["vocab_size"], n_layers=s["n_layers"], n_heads=s["n_heads"], qk_norm=True,
        rope_theta=10_000, block_name="reordered_norm", hidden_size_multiplier=1.0,
        hidden_size_multiple_of=1, layer_norm_eps=1e-6,
    )  # fmt: skip
    built.block.feed_forward.hidden_size = s["mlp_hidden"]
    model: nn.Module = built.build(init_device="cpu")
    model.init_weights(max_seq_len=512, device=torch.device("cpu"))
    return model


def litgpt(size: str) -> nn.Module | None:
    """litgpt's OLMo 2 of the same sizes; None where the peers are not installed."""
    try:
        from litgpt import GPT, Config
    except ImportError:
        return None
    s = SIZES[size]
    built = Config.from_name(
        "OLMo-2-1124-7B", n_layer=s["n_layers"], n_head=s["n_heads"], n_query_groups=s["n_heads"], n_embd=s["d_model"],
        head_size=s["d_model"] // s["n_heads"], intermediate_size=s["mlp_hidden"], padded_vocab_size=s["vocab_size"],
        block_size=512, rope_base=10_000,
    )  # fmt: skip
    model: nn.Module = GPT(built)
    return model


def nano_gpt(size: str) -> nn.Module:
    """nanoGPT's architecture of the same width and depth: its blocks have the same parameters to within 3 %, its head is tied.
    Rewritten, so always there."""
    s = SIZES[size]
    return NanoGPT(s["vocab_size"], 512, s["d_model"], s["n_layers"], s["n_heads"])
