"""A checkpoint artifact's files: weights, architecture, tokenizer, and for pretraining what a child stage inherits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from lehr.artifacts.artifact import Artifact, write_atomic
from lehr.artifacts.tensors import read_shapes, read_tensors, save_tensors
from lehr.config.model import Model, checked
from lehr.data.template_file import TEMPLATE
from lehr.data.tokenizer import Tokenizer
from lehr.model.size import check_fits
from lehr.model.transformer import Backbone, Transformer
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

WEIGHTS, ARCHITECTURE, OPTIMIZER, TRAINING, TOKENIZER = (
    "model.safetensors",
    "model.json",
    "optimizer.safetensors",
    "train.json",
    "tokenizer.json",
)

Head = Literal["language", "scalar"]
_HEADS = {"language": "a language model", "scalar": "a value or reward model"}
_WHOLE = "use a whole checkpoint"
M = TypeVar("M", bound=Backbone)


@dataclass(frozen=True)
class Loaded:
    """A language model's checkpoint. `training` is the content of `train.json` (`lr`, `batch_size`, ...), empty for soups."""

    model: Transformer
    tokenizer: Tokenizer
    architecture: Model
    training: dict[str, Any]
    chat: bool


def save_checkpoint(
    folder: Path,
    config: Model,
    weights: dict[str, Tensor],
    tokenizer: Path | Tokenizer,
    *,
    chat: bool,
    training: dict[str, Any] | None = None,
    optimizer: dict[str, Tensor] | None = None,
    head: Head = "language",
) -> None:
    """Write a checkpoint's files; `weights` are fp32 by name. Complete only when an artifact manifest seals them."""
    describe_checkpoint(folder, config, tokenizer, chat=chat, training=training, head=head)
    save_tensors(weights, folder / WEIGHTS)
    if optimizer is not None:
        save_tensors(optimizer, folder / OPTIMIZER)


def describe_checkpoint(
    folder: Path,
    config: Model,
    tokenizer: Path | Tokenizer,
    *,
    chat: bool,
    training: dict[str, Any] | None = None,
    head: Head = "language",
) -> None:
    """Write every file of a checkpoint except weights and optimiser state. `tokenizer` is one, or the folder of one, whose
    files are copied, with its chat template. `model.json` names the head unless it is a language model's."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, Tokenizer):
        tokenizer.save(folder)
    else:
        copy_tokenizer(tokenizer, folder)
    described = {"architecture": config.model_dump(), "tokenizer": Tokenizer.load(folder).hash, "chat": chat}
    # Left out for language models: their `model.json`, and so their digest, stays as it was before there were scalar heads.
    if head != "language":
        described["head"] = head
    write_atomic(folder / ARCHITECTURE, json.dumps(described, indent=1, sort_keys=True))
    if training is not None:
        write_atomic(folder / TRAINING, json.dumps(training, indent=1, sort_keys=True))


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer's files, its own chat template included."""
    for name in (TOKENIZER, TEMPLATE):
        if name == TOKENIZER or (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def load_checkpoint(artifact: Artifact) -> Loaded:
    """Load the language model in fp32. Raises UserError if files are damaged, if tokenizer and model do not belong together,
    or if the checkpoint's head is scalar (a value or reward model)."""
    model, tokenizer, said = load_model(artifact, "language", Transformer)
    training = artifact.path(TRAINING)
    known = read_object(training, _WHOLE) if training.is_file() else {}
    return Loaded(model, tokenizer, model.config, known, bool(said["chat"]))


def check_head(folder: Path, wanted: Head) -> dict[str, Any]:
    """The content of `model.json` of the checkpoint in `folder`. Raises UserError unless the model has the `wanted` head; a
    file that names no head is a language model's."""
    said = described(folder)
    found = said.get("head", "language")
    if found != wanted:
        raise UserError(
            f"this checkpoint is {_HEADS.get(found, found)}, and {_HEADS[wanted]} is needed",
            where=folder,
            remedy="give the checkpoint of a stage that trains one",
        )
    return said


def described(folder: Path) -> dict[str, Any]:
    """The content of `model.json`. Raises UserError if a key is missing or its value has the wrong type."""
    said = read_object(folder / ARCHITECTURE, _WHOLE)
    kinds = {"architecture": dict, "tokenizer": str, "chat": bool, "head": str}
    for key, kind in kinds.items():
        if not isinstance(said.get(key, "language" if key == "head" else None), kind):
            raise UserError(f"{key!r} is missing or damaged", where=folder / ARCHITECTURE, remedy=_WHOLE)
    return said


def _architecture(folder: Path, said: dict[str, Any]) -> tuple[Model, dict[str, tuple[int, ...]]]:
    """The architecture in `model.json` and the shapes in the weights' file, which must agree. Raises UserError."""
    model = checked(said["architecture"], folder / ARCHITECTURE, _WHOLE)
    shapes = read_shapes(folder / WEIGHTS)
    check_fits(model, shapes, folder / ARCHITECTURE)
    return model, shapes


def load_model(artifact: Artifact, head: Head, kind: Callable[[Model], M]) -> tuple[M, Tokenizer, dict[str, Any]]:
    """A model of class `kind` in fp32, its tokenizer and the content of `model.json`. Raises UserError as load_checkpoint does.
    Memory is allocated only after the header of the weights' file has confirmed the sizes: a damaged `model.json` with huge
    sizes must not exhaust the machine."""
    said = check_head(artifact.expect("checkpoint").folder, head)
    tokenizer = Tokenizer.load(artifact.folder)
    check_tokenizer(said["tokenizer"], tokenizer.hash, artifact.path(TOKENIZER))
    config, shapes = _architecture(artifact.folder, said)
    # Not built on "meta" first: an embedding there imports torch._dynamo, which takes a second on every rank of every stage.
    model = kind(config)
    for name, parameter in model.named_parameters():
        if shapes.get(name) != tuple(parameter.shape):
            what = f"tensor {name!r} is missing or has another shape"
            raise UserError(what, where=artifact.path(WEIGHTS), remedy=_WHOLE)
    load_weights(model, artifact.path(WEIGHTS))
    return model, tokenizer, said


def load_weights(model: Backbone, path: Path) -> None:
    """Overwrite the model's weights with those of a file of the same shapes. Raises UserError if one is NaN or infinite."""
    weights = read_tensors(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not bool(weights[name].isfinite().all()):
                raise UserError(f"tensor {name!r} holds NaN or infinity", where=path, remedy=_WHOLE)
            parameter.copy_(weights[name])


def load_architecture(artifact: Artifact) -> Model:
    """The architecture alone, without loading weights. Raises UserError as `load_checkpoint` does."""
    folder = artifact.expect("checkpoint").folder
    return _architecture(folder, described(folder))[0]


def load_training(parent: Artifact) -> dict[str, Any]:
    """The parent's `train.json`. Raises UserError if it is missing or damaged, or if its learning rate is already zero."""
    path = parent.expect("checkpoint").path(TRAINING)
    if not path.is_file():
        raise UserError(
            "this checkpoint does not define how its training ended (a soup or chat model?)",
            where=parent.folder,
            remedy="give a pretrained one",
        )
    training = read_object(path, _WHOLE)
    if not isinstance(training.get("lr"), int | float):
        raise UserError("'lr' is missing or damaged", where=path, remedy=_WHOLE)
    if not training["lr"] > 0:
        raise UserError("its learning rate ended at zero", where=parent.folder, remedy="give a parent that is not annealed")
    return training


def check_tokenizer(expected: str, found: str, where: Path) -> None:
    """Check that two tokenizer hashes are equal. Raises UserError."""
    if expected != found:
        raise UserError(
            f"made with another tokenizer ({found[:12]}, this needs {expected[:12]})",
            where=where,
            remedy="use artifacts of one run",
        )


def copy_parameters(model: Transformer) -> Transformer:
    """A frozen copy of `model`, for reference log-probabilities."""
    twin = Transformer(model.config).to(model.cos.device)
    with torch.no_grad():
        for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
            ours.copy_(theirs)
            ours.requires_grad_(False)
    return twin
