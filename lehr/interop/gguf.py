"""GGUF files for llama.cpp: written with the `gguf` package, and read back into our model as the proof.

Where llama.cpp turns RoPE's pairs (x[2i], x[2i + 1]), as it does for Llama, rows of queries and keys are permuted on the way
(`ModelFamily.gguf_interleaved`): ours are always (x[i], x[i + R/2]).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lehr.artifacts.artifact import write_beside
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.interop.gguf_pre_tokenizer import pre_tokenizer_name
from lehr.interop.hf_config import check_family
from lehr.interop.hf_weights import drop_equal_head, from_hf_state, to_hf_state
from lehr.model.families import FAMILIES
from lehr.model.transformer import Transformer
from lehr.post.chat import turn_end_id
from lehr.runtime.errors import UserError

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.norm.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
}
_INNER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.output_linear": "ffn_down_exps",
}
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def _inner_names(config: Model) -> dict[str, str]:
    if config.norm_placement == "output":
        norms = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
    else:
        norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    return {**_INNER, **norms}


def interleave(rows: Tensor, heads: int) -> Tensor:
    """Reorder the rows of each head from (first half, second half) to pairs side by side."""
    return rows.view(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def deinterleave(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `interleave`."""
    return rows.view(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def to_gguf_tensors(state: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """Our weights under GGUF's names and in llama.cpp's row order."""
    check_family(config)
    inner, out = _inner_names(config), dict[str, Tensor]()
    for name, tensor in to_hf_state(state, config).items():
        if name in _TOP:
            out[_TOP[name]] = tensor
            continue
        _, _, layer, *middle, kind = name.split(".")
        block, part = f"blk.{layer}", ".".join(middle)
        if part.endswith(("q_proj", "k_proj")) and FAMILIES[config.family].gguf_interleaved:
            tensor = interleave(tensor, config.n_heads if part.endswith("q_proj") else config.n_kv_heads)
        if part == "block_sparse_moe.input_linear":
            out[f"{block}.ffn_gate_exps.weight"], out[f"{block}.ffn_up_exps.weight"] = (
                half.contiguous() for half in tensor.chunk(2, dim=1)
            )
        else:
            out[f"{block}.{inner[part]}.{kind}"] = tensor
    if config.tied_embeddings and not FAMILIES[config.family].gguf_ties_head:
        out["output.weight"] = out["token_embd.weight"]
    return out


def from_gguf_tensors(tensors: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """The inverse of `to_gguf_tensors`, in fp32. Raises UserError for what is missing or superfluous."""
    top, inner = {v: k for k, v in _TOP.items()}, {v: k for k, v in _inner_names(config).items()}
    tensors = {name: t.float() for name, t in tensors.items()}
    if config.tied_embeddings:
        drop_equal_head(tensors, "output.weight", "token_embd.weight")
    hf: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in top:
            hf[top[name]] = tensor
            continue
        _, layer, part, kind = name.split(".")
        prefix = f"model.layers.{layer}"
        if part in ("attn_q", "attn_k") and FAMILIES[config.family].gguf_interleaved:
            tensor = deinterleave(tensor, config.n_heads if part == "attn_q" else config.n_kv_heads)
        if part == "ffn_gate_exps":
            joined = torch.cat([tensor, tensors[f"blk.{layer}.ffn_up_exps.weight"]], dim=1)
            hf[f"{prefix}.block_sparse_moe.input_linear.weight"] = joined
        elif part != "ffn_up_exps":
            hf[f"{prefix}.{inner.get(part, part)}.{kind}"] = tensor
    return from_hf_state(hf, config)


def write_gguf(
    model: Transformer, tokenizer_json: Path, path: Path, *, name: str, dtype: str = "f32", chat_template: str | None = None
) -> Path:
    """Write `model` and its byte-level BPE to `path`; matrices as `dtype` (f32, f16, bf16), vectors in f32.

    Raises UserError where the package is missing, the architecture is none of llama.cpp's, or the tokenizer no such BPE or one
    that cuts words as none of llama.cpp's does.
    """
    gguf = _package()
    tensors = to_gguf_tensors(dict(model.named_parameters()), model.config)

    def write(beside: Path) -> None:
        writer = gguf.GGUFWriter(beside, model.config.family)
        writer.add_name(name)
        _add_architecture(writer, model.config)
        _add_tokenizer(gguf, writer, tokenizer_json, model.config.vocab_size, chat_template)
        for tensor_name, tensor in tensors.items():
            small = tensor.dim() == 1 or tensor_name.endswith("ffn_gate_inp.weight")
            _add_tensor(gguf, writer, tensor_name, tensor.detach().to(torch.float32 if small else _DTYPES[dtype]))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_beside(path, write)
    return path


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise UserError("the package gguf is not installed", remedy="install Lehr with its extra: lehr[export]") from None
    return gguf


def _add_tensor(gguf: Any, writer: Any, name: str, tensor: Tensor) -> None:
    if tensor.dtype == torch.bfloat16:  # numpy has no bf16: its bits go as integers
        bits = tensor.contiguous().view(torch.int16).numpy().view(np.uint16)
        writer.add_tensor(name, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, tensor.contiguous().numpy())


def _add_architecture(writer: Any, c: Model) -> None:
    writer.add_context_length(c.max_seq_len)
    writer.add_embedding_length(c.d_model)
    writer.add_block_count(c.n_layers)
    writer.add_feed_forward_length(c.mlp_hidden)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_rope_dimension_count(c.rotary_dim)
    writer.add_vocab_size(c.vocab_size)
    (writer.add_layer_norm_rms_eps if c.norm == "rmsnorm" else writer.add_layer_norm_eps)(c.norm_eps)
    if c.clip_qkv is not None:
        writer.add_clamp_kqv(c.clip_qkv)
    if FAMILIES[c.family].multiplied:
        writer.add_attention_scale(c.attention_multiplier or c.head_dim**-0.5)
        writer.add_embedding_scale(c.embedding_multiplier)
        writer.add_residual_scale(c.residual_multiplier)
        writer.add_logit_scale(c.logits_scaling)
    for method, value in FAMILIES[c.family].gguf_constants.items():
        getattr(writer, method)(value)
    if c.n_experts:
        writer.add_expert_count(c.n_experts)
        writer.add_expert_used_count(c.top_k)


def _add_tokenizer(gguf: Any, writer: Any, path: Path, rows: int, chat_template: str | None) -> None:
    """The vocabulary in order of ids, padded to the embedding's rows with unused entries."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    if spec["model"].get("type") != "BPE":
        raise UserError(f"a {spec['model'].get('type')} tokenizer", where=path, remedy="GGUF export knows byte-level BPE alone")
    ours = Tokenizer.load(path.parent)
    if ours.vocab_size > rows:
        what = f"the tokenizer's highest id is {ours.vocab_size - 1}, and the embedding has {rows} rows"
        raise UserError(what, where=path, remedy="export the model with the tokenizer that it was trained with")
    tokens = [f"<|unused_{i}|>" for i in range(rows)]
    types = [int(gguf.TokenType.UNUSED)] * rows
    for token, i in spec["model"]["vocab"].items():
        tokens[i], types[i] = token, int(gguf.TokenType.NORMAL)
    for added in spec["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(path))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]])
    writer.add_eos_token_id(ours.eos_id)
    writer.add_pad_token_id(ours.pad_id)
    writer.add_add_bos_token(False)
    if chat_template:
        writer.add_chat_template(chat_template)
        end = turn_end_id(ours)
        if end != ours.eos_id:  # llama.cpp stops at either
            writer.add_eot_token_id(end)


def read_gguf(path: Path, config: Model) -> Transformer:
    """The model in a GGUF file of unquantised tensors, in fp32. Raises UserError if it does not hold `config`'s."""
    gguf = _package()
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise UserError(f"not a GGUF file ({error})", where=path, remedy="export it again") from None
    tensors = {}
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]
        if t.tensor_type == gguf.GGMLQuantizationType.BF16:
            flat = torch.from_numpy(np.array(t.data).view(np.int16).copy()).view(torch.bfloat16)
        else:
            flat = torch.from_numpy(np.array(t.data))
        tensors[t.name] = flat.reshape(shape)
    model = Transformer(config)
    model.load_state_dict(from_gguf_tensors(tensors, config))
    return model
