"""Weights and configurations, ours and Hugging Face's: Olmo, Olmo2, Granite, GraniteMoe, StableLm. Both ways, without
transformers.

Both sides use the half-rotation RoPE convention, so matrices are only cut and joined, never permuted. Row blocks of our
joined matrices: `qkv` is query, key, value; `gate_up` is gate, up.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from lehr.artifacts.tensors import read_shapes, read_tensors, write_tensors
from lehr.config.model import Model
from lehr.interop.hf_config import hf_config, model_from_hf
from lehr.model.size import check_fits
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_FOLDER, _AGAIN = "give the folder of a Hugging Face model", "fetch the model again"

_TOP = {"embed.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
_ATTENTION = {
    "attention.q_norm.weight": "self_attn.q_norm.weight",
    "attention.k_norm.weight": "self_attn.k_norm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
}
_DENSE = {"mlp.down.weight": "mlp.down_proj.weight"}
_EXPERTS = {
    "mlp.router.weight": "block_sparse_moe.router.layer.weight",
    "mlp.gate_up": "block_sparse_moe.input_linear.weight",
    "mlp.down": "block_sparse_moe.output_linear.weight",
}
# Modules of transformers 5 in memory; its files, like all before them, have the names above.
_ALIASES = {
    "block_sparse_moe.router.layer.weight": "block_sparse_moe.router.weight",
    "block_sparse_moe.input_linear.weight": "block_sparse_moe.experts.gate_up_proj",
    "block_sparse_moe.output_linear.weight": "block_sparse_moe.experts.down_proj",
}


def _same(config: Model) -> dict[str, str]:
    """Tensors of a layer that only change their name: ours -> theirs."""
    output = config.norm_placement == "output"
    attention_norm = "post_attention_layernorm" if output else "input_layernorm"
    mlp_norm = "post_feedforward_layernorm" if output else "post_attention_layernorm"
    names = {**_ATTENTION, **(_EXPERTS if config.n_experts else _DENSE)}
    for part in ("weight", "bias"):
        names |= {f"attention_norm.{part}": f"{attention_norm}.{part}", f"mlp_norm.{part}": f"{mlp_norm}.{part}"}
    return names


def _joined(config: Model) -> dict[str, list[tuple[str, int]]]:
    """Our joined matrices of a layer: their parts on the other side, in order, with their rows."""
    q, kv, f = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim, config.mlp_hidden
    parts = {}
    for kind in ("weight", "bias"):
        sizes = (("q", q), ("k", kv), ("v", kv))
        parts[f"attention.qkv.{kind}"] = [(f"self_attn.{name}_proj.{kind}", rows) for name, rows in sizes]
    if not config.n_experts:
        parts["mlp.gate_up.weight"] = [("mlp.gate_proj.weight", f), ("mlp.up_proj.weight", f)]
    return parts


def tensor_shapes(config: Model) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor on our side."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}


def name_map(config: Model) -> dict[str, list[tuple[str, int]]]:
    """For each of our tensors, the tensors of the other side that it consists of, each with its rows (0: all of them)."""
    same, joined = _same(config), _joined(config)
    out: dict[str, list[tuple[str, int]]] = {}
    for name in tensor_shapes(config):
        first, _, rest = name.partition(".")
        if first != "layers":
            out[name] = [(_TOP.get(name, f"model.{name}"), 0)]
            continue
        layer, _, inner = rest.partition(".")
        theirs = joined[inner] if inner in joined else [(same[inner], 0)]
        out[name] = [(f"model.layers.{layer}.{t}", rows) for t, rows in theirs]
    return out


def _check(state: dict[str, Tensor], config: Model) -> None:
    """Every tensor there, none beside them, each of its shape: else UserError names the first that is not."""
    expected = tensor_shapes(config)
    remedy = "give weights of the same architecture as the model section of the recipe"
    for name, shape in expected.items():
        if name not in state:
            raise UserError(f"tensor {name} is missing", remedy=remedy)
        if tuple(state[name].shape) != shape:
            raise UserError(f"tensor {name} has shape {tuple(state[name].shape)} instead of {shape}", remedy=remedy)
    for name in state:
        if name not in expected:
            raise UserError(f"tensor {name} has no place in this model", remedy=remedy)


def to_hf_state(state: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """Our state dict as Hugging Face's: same numbers and dtype, contiguous copies that share no memory.

    Raises UserError where a tensor is missing, superfluous or of another shape.
    """
    _check(state, config)
    out: dict[str, Tensor] = {}
    for ours, theirs in name_map(config).items():
        tensor = state[ours].detach()
        blocks = [tensor] if len(theirs) == 1 else torch.split(tensor, [rows for _, rows in theirs])
        out |= {name: block.clone() for (name, _), block in zip(theirs, blocks, strict=True)}
    return out


def from_hf_state(hf: dict[str, Tensor], config: Model) -> dict[str, Tensor]:
    """Hugging Face's state dict as ours; the inverse of `to_hf_state`. Raises UserError as it does, by their names."""
    hf = dict(hf)
    remedy = f"give the whole weights of a {config.family} model of this size"
    if config.tied_embeddings:
        drop_equal_head(hf, "lm_head.weight", "model.embed_tokens.weight")
    shapes = tensor_shapes(config)
    out: dict[str, Tensor] = {}
    for ours, theirs in name_map(config).items():
        blocks = []
        for name, rows in theirs:
            found = _take(hf, name)
            if found is None:
                raise UserError(f"tensor {name} is missing", remedy=remedy)
            wanted = (rows or shapes[ours][0], *shapes[ours][1:])
            if tuple(found.shape) != wanted:
                raise UserError(f"tensor {name} has shape {tuple(found.shape)} instead of {wanted}", remedy=remedy)
            blocks.append(found.detach())
        out[ours] = blocks[0].clone() if len(blocks) == 1 else torch.cat(blocks)
    if hf:
        raise UserError(f"tensor {min(hf)} has no place in this model", remedy=remedy)
    return out


def _take(hf: dict[str, Tensor], name: str) -> Tensor | None:
    if name in hf:
        return hf.pop(name)
    alias = next((name.replace(old, new) for old, new in _ALIASES.items() if name.endswith(old)), "")
    return hf.pop(alias, None)


def load_hf(folder: str | Path) -> Transformer:
    """The model in a Hugging Face folder (`config.json` and safetensors, one file or several with an index), in fp32.

    Raises UserError for an architecture or feature that we do not build, and for files that are absent or damaged.
    """
    folder = Path(folder)
    try:
        config = model_from_hf(read_object(folder / CONFIG, _FOLDER))
    except UserError as error:
        raise UserError(error.what, where=error.where or folder / CONFIG, remedy=error.remedy) from None
    files = _weight_files(folder)
    shapes = _shapes(files)
    check_fits(config, shapes, folder / CONFIG)
    try:
        # On tensors without content first: nothing is allocated for a model that the files do not hold.
        from_hf_state({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, config)
        weights: dict[str, Tensor] = {}
        for path in files:
            weights |= {name: _number(name, t, path) for name, t in read_tensors(path, _AGAIN).items()}
        state = from_hf_state(weights, config)
    except UserError as error:
        raise UserError(error.what, where=error.where or folder, remedy=error.remedy) from None
    model = Transformer(config)
    model.load_state_dict(state)
    return model


def _number(name: str, tensor: Tensor, path: Path) -> Tensor:
    """`tensor` in fp32. Raises UserError for whole numbers (quantised weights) and for NaN."""
    if not tensor.is_floating_point():
        remedy = "give the weights that are not quantised"
        raise UserError(f"tensor {name:.80} holds {tensor.dtype}, no weights", where=path, remedy=remedy)
    tensor = tensor.float()
    if not bool(tensor.isfinite().all()):
        raise UserError(f"tensor {name:.80} holds NaN or infinity", where=path, remedy="give a model that was saved whole")
    return tensor


def save_hf(model: Transformer, folder: str | Path, *, eos: int = 0, pad: int = 0) -> Path:
    """Write `config.json` and `model.safetensors` of a Hugging Face model. `eos`, `pad`: ids for its configuration."""
    folder = Path(folder)
    tensors = to_hf_state(dict(model.named_parameters()), model.config)
    dtype = str(tensors["model.embed_tokens.weight"].dtype).removeprefix("torch.")
    config = hf_config(model.config, eos=eos, pad=pad, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_tensors({name: tensors[name].cpu().contiguous() for name in sorted(tensors)}, folder / WEIGHTS, {"format": "pt"})
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights. Raises UserError where there are none, or where the index names what is not there."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError(f"neither {WEIGHTS} nor {INDEX}", where=folder, remedy="give a model saved as safetensors")
    listed = read_object(folder / INDEX, _AGAIN).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise UserError("no weight_map", where=folder / INDEX, remedy=_AGAIN)
    for name in sorted(set(listed.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"the index names {name!r:.80}, which is not there", where=folder, remedy=_AGAIN)
    return [folder / name for name in sorted(set(listed.values()))]


def _shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the files. Raises UserError for one that stands in two of them: which is meant?"""
    out: dict[str, tuple[int, ...]] = {}
    for path in files:
        found = read_shapes(path, _AGAIN)
        if twice := sorted(found.keys() & out.keys()):
            raise UserError(f"tensor {twice[0]:.80} stands in another file too", where=path, remedy=_AGAIN)
        out |= found
    return out


def drop_equal_head(tensors: dict[str, Tensor], head: str, embedding: str) -> None:
    """Take a tied head out that a file lists a second time. Raises UserError if it is another than the embedding."""
    found, tied = tensors.pop(head, None), tensors.get(embedding)
    if found is None or tied is None:
        return
    if found.shape != tied.shape or not (found.is_meta or torch.equal(found, tied)):
        what = f"the configuration ties the head to the embedding, and the weights hold another head ({head})"
        raise UserError(what, remedy="set tie_word_embeddings to false in config.json if the head is the model's own")
