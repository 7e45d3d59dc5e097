"""The models that filters name: trained by a stage of this run, by an earlier one, or by other tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lehr.artifacts.artifact import sha256_file
from lehr.config.filters import FilterConfig
from lehr.config.text_models import names_file
from lehr.data.arpa import read_arpa
from lehr.data.fasttext_file import FastText
from lehr.data.linear import DESCRIBED, LinearClassifier, TextClassifier
from lehr.data.ngram_model import NgramLanguageModel
from lehr.runtime.errors import UserError

_REMEDY = "name a model of `data.models`, a folder that such a stage wrote, or a file"


def classifier(model: str, label: str) -> TextClassifier:
    """The classifier in a folder, or a fastText file. Raises UserError for one that is missing or damaged."""
    path = _there(model)
    if path.is_file():
        return FastText.read(path, label)
    if label:
        raise UserError(f"label {label!r}: only fastText models have labels", where=path, remedy="leave `label` out")
    return LinearClassifier.load(path)


def ngram_model(model: str, normalise: Literal["none", "plain"]) -> NgramLanguageModel:
    """The language model in a folder, or an ARPA file. Raises UserError for one that is missing or damaged."""
    path = _there(model)
    return read_arpa(path, normalise) if path.is_file() else NgramLanguageModel.load(path)


def _there(model: str) -> Path:
    path = Path(model)
    if not path.exists():
        raise UserError("there is no such model", where=model, remedy=_REMEDY)
    return path


def named(configs: Mapping[str, FilterConfig]) -> dict[str, str]:
    """Filter -> the model of `data.models` that it names, of those that name one."""
    found = {name: getattr(config, "model", "") for name, config in configs.items()}
    return {name: model for name, model in found.items() if model and not names_file(model)}


def with_models(configs: Mapping[str, FilterConfig], folders: Mapping[str, Path]) -> dict[str, FilterConfig]:
    """The filters with the folders of their models in place of names. Raises UserError for a name without a folder."""
    used = named(configs)
    for filter_name, model in used.items():
        if model not in folders:
            known = ", ".join(sorted(folders)) or "none"
            raise UserError(
                f"there is no model {model!r}; models are: {known}", where=f"data.filters.{filter_name}.model", remedy=_REMEDY
            )
    return {
        name: config.model_copy(update={"model": str(folders[used[name]])}) if name in used else config
        for name, config in configs.items()
    }


def content(model: str) -> dict[str, str]:
    """SHA-256 of each file that makes a model. Raises UserError if it is missing."""
    path = _there(model)
    if path.is_file():
        return {path.name: sha256_file(path)}
    kind = DESCRIBED if (path / DESCRIBED).exists() else "ngrams.json"
    files = [path / kind, (path / kind).with_suffix(".safetensors")]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError("no such file", where=missing[0], remedy=_REMEDY)
    return {file.name: sha256_file(file) for file in files}
