"""Models from elsewhere and for elsewhere: Hugging Face folders in, Hugging Face folders and GGUF files out."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from lehr.artifacts.artifact import LOGS, Artifact, Cost, canonical, sha256_file, sha256_text, write_atomic
from lehr.artifacts.fingerprint import code_version
from lehr.config.model import Model
from lehr.config.tokenizer import Tokenizer as TokenizerConfig
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import FILE, Tokenizer
from lehr.interop.gguf import read_gguf, write_gguf
from lehr.interop.hf_config import CLASSES
from lehr.interop.hf_export import VerifyResult, export_hf, verify_hf
from lehr.interop.hf_weights import load_hf
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.post.chat import chat_template
from lehr.runtime.errors import Bug, UserError
from lehr.train.checkpointing.checkpoint import Loaded, load_checkpoint, save_checkpoint

Dtype = Literal["f32", "f16", "bf16"]
_VERIFY_ROWS, _VERIFY_TOKENS = 4, 64
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_GGUF_TOLERANCE = 1e-5  # the file holds the very numbers; only the order of sums could differ


def import_hf(folder: Path, out: Path) -> Artifact:
    """A Hugging Face model (config, safetensors, `tokenizer.json`) as a checkpoint artifact in `out`, in fp32.

    Raises UserError for what is unsupported, damaged or already there; then `out` is not made.
    """
    if out.exists():
        raise UserError("this folder exists already", where=out, remedy="give --out a new name")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        config = import_checkpoint(folder, beside)
        source = {p.name: sha256_file(p) for p in sorted(folder.glob("*.safetensors"))}
        Artifact.seal(
            beside, kind="checkpoint", stage="import", fingerprint=sha256_text(canonical(source)), parents=[],
            config={"source": source}, code=code_version(import_hf), meta={"family": config.family},
            cost=Cost(seconds=0.0, tokens=0, flops=0.0, energy_joules=0.0, energy_source="none", processes=1),
        )  # fmt: skip
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Artifact.open(out)


def import_checkpoint(folder: Path, out: Path, own: Tokenizer | None = None) -> Model:
    """Write a Hugging Face model's checkpoint files (weights in fp32, architecture, tokenizer) into `out`, and no manifest.

    The tokenizer, unless it is one's `own`, is read as `Tokenizer.given` reads one: its end of text is what the folder's
    configuration says. With a chat template it is a chat model's. Raises UserError for what is unsupported or damaged.
    """
    model, tokenizer = load_hf(folder), own or Tokenizer.given(TokenizerConfig(path=str(folder)))
    if tokenizer.vocab_size > model.config.vocab_size:
        what = f"its tokenizer's highest id is {tokenizer.vocab_size - 1}, and the embedding has {model.config.vocab_size} rows"
        raise UserError(what, where=folder, remedy="give a model with its own tokenizer")
    with TemporaryDirectory() as beside:
        tokenizer.save(beside)
        weights = {name: p.detach() for name, p in model.named_parameters()}
        save_checkpoint(out, model.config, weights, Path(beside), chat=bool(tokenizer.chat_template))
    return model.config


def export_checkpoint(checkpoint: Artifact, shards: Artifact | None, attempt: Attempt) -> Outcome:
    """Write `checkpoint` for Hugging Face into the attempt's folder and, where transformers is installed, compare logits and
    greedy text: on the first windows of `shards`, else on ids from all over the vocabulary. Raises Bug if they differ."""
    loaded = load_checkpoint(checkpoint)
    tokens_BT = _text(shards, loaded.tokenizer) if shards else _probe(loaded.model)
    result = _write_hf(checkpoint, loaded, attempt.out, tokens_BT)
    if result is None:
        attempt.tracker.note("transformers is not installed: the export was not compared (pip install 'lehr[export]')")
    else:
        write_atomic(attempt.out / LOGS / "verified.json", json.dumps(vars(result)))
    family = CLASSES[loaded.architecture.family]
    return Outcome({"format": family, "checkpoint": checkpoint.manifest.digest, "verified": result is not None})


def _write_hf(checkpoint: Artifact, loaded: Loaded, folder: Path, tokens_BT: torch.Tensor) -> VerifyResult | None:
    """Write the checkpoint as a Hugging Face folder and compare it with ours on `tokens_BT`; None where transformers is not
    installed. Raises Bug if they differ."""
    weights = {name: p.detach() for name, p in loaded.model.named_parameters()}
    template = chat_template(loaded.tokenizer, marked=True) if loaded.chat else None
    export_hf(weights, loaded.architecture, checkpoint.path(FILE), template, folder)
    if find_spec("transformers") is None:
        return None
    result = verify_hf(folder, loaded.model, [tokens_BT])
    if not result.ok:
        raise Bug(f"exported logits differ by {result.max_abs_difference:.2e}, first at {result.first_difference}")
    return result


def _text(shards: Artifact, tokenizer: Tokenizer) -> torch.Tensor:
    """Real text: the first windows of the first source, (4, 64)."""
    source = sorted(shards.manifest.meta["tokens"])[0]
    tokens = ShardSet.open(shards.folder, source, tokenizer).tokens
    return torch.from_numpy(tokens[: _VERIFY_ROWS * _VERIFY_TOKENS].astype("int64")).view(_VERIFY_ROWS, _VERIFY_TOKENS)


def export_to_hf(checkpoint: Artifact, out: Path) -> VerifyResult | None:
    """Write `checkpoint` as a Hugging Face folder and compare it with transformers, where that is installed (else None). Raises
    UserError if `out` exists, Bug if they differ; then `out` is not made."""
    _fresh(out)
    loaded = load_checkpoint(checkpoint)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        result = _write_hf(checkpoint, loaded, beside, _probe(loaded.model))
        os.replace(beside, out)
        return result
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@torch.no_grad()
def export_to_gguf(checkpoint: Artifact, out: Path, dtype: Dtype) -> float:
    """Write `checkpoint` as the GGUF file `out`, read it back, and return the largest difference of the logits from those
    of the model with its matrices rounded to `dtype`. Raises Bug if that is not the rounding of fp32 sums."""
    _fresh(out)
    loaded = load_checkpoint(checkpoint)
    template = chat_template(loaded.tokenizer, marked=False) if loaded.chat else None
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        name = f"{loaded.architecture.family}-{checkpoint.manifest.stage}"
        write_gguf(loaded.model, checkpoint.path(FILE), beside, name=name, dtype=dtype, chat_template=template)
        again = read_gguf(beside, loaded.architecture)
        for parameter_name, parameter in loaded.model.named_parameters():
            if parameter.dim() > 1 and not parameter_name.endswith("router.weight"):
                parameter.copy_(parameter.to(_DTYPES[dtype]))
        tokens_BT = _probe(loaded.model)
        difference = float((again(tokens_BT) - loaded.model(tokens_BT)).abs().max())
        if not difference <= _GGUF_TOLERANCE:
            raise Bug(f"logits of the file read back differ by {difference:.2e}")
        os.replace(beside, out)
        return difference
    finally:
        beside.unlink(missing_ok=True)


def _fresh(out: Path) -> None:
    if out.exists():
        raise UserError("this exists already", where=out, remedy="give --out a new name")
    out.parent.mkdir(parents=True, exist_ok=True)


def _probe(model: Transformer) -> torch.Tensor:
    """Token ids that reach all over the vocabulary, (2, T)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (2, min(64, model.config.max_seq_len - 8)), generator=generator)
