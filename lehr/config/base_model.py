"""What a recipe needs of the model from which it begins: its architecture, and how its training ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

Fetch = Callable[[str], Path]
_REMEDY = "give a checkpoint artifact's folder or address, as `lehr show RUN` names it"


def resolve_base(values: dict[str, Any], fetch: Fetch, origin: Mapping[str, str], shown: str) -> None:
    """Fill in `model` and `base.training` of a recipe's `values` from its base. A recipe that has both is already resolved.

    Raises UserError if there is no such model, and for a key of `model` that differs from the base's.
    """
    base = values.get("base")
    if not isinstance(base, dict):
        return
    checkpoint, folder = base.get("checkpoint"), base.get("huggingface")
    if bool(checkpoint) == bool(folder) or "training" in base:
        return
    if checkpoint:
        model, base["training"] = _of_checkpoint(fetch(str(checkpoint)), str(checkpoint))
    else:
        model, base["training"] = _of_huggingface(Path(str(folder))), None
    for key, value in (values.get("model") or {}).items():
        if key in model and model[key] != value:
            where = origin.get(f"model.{key}", shown)
            raise UserError(f"model.{key}={value!r} is not the base's {model[key]!r}", where=where, remedy="leave model out")
    values["model"] = model


def _of_checkpoint(folder: Path, named: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    said = _read(folder / "model.json", named)
    training = _read(folder / "train.json", named) if (folder / "train.json").is_file() else None
    if not isinstance(said.get("architecture"), dict):
        raise UserError("damaged (it has no architecture)", where=folder / "model.json", remedy=_REMEDY)
    if training is not None:
        training = {key: training.get(key) for key in ("lr", "batch_size", "sequence_length")}
        if not all(isinstance(value, int | float) for value in training.values()):
            raise UserError(f"damaged (not all of {', '.join(training)})", where=folder / "train.json", remedy=_REMEDY)
    architecture: dict[str, Any] = said["architecture"]
    return architecture, training


def _of_huggingface(folder: Path) -> dict[str, Any]:
    from lehr.interop.hf_config import model_from_hf

    if not (folder / "config.json").is_file():
        raise UserError("no Hugging Face model here", where=folder, remedy="give a folder with config.json and safetensors")
    model: dict[str, Any] = model_from_hf(_read(folder / "config.json", str(folder))).model_dump()
    return model


def _read(path: Path, named: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError("no checkpoint there", where=named, remedy=_REMEDY)
    return read_object(path, _REMEDY)
