"""A linear classifier on hashed word n-grams: P(positive) = sigmoid(mean of the n-grams' weights + bias).

This is what fastText's supervised form computes with two labels: its output matrix times the mean of the n-grams' rows is the
mean of the rows' products. Nothing here loads torch: filters run in many small processes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lehr.data.hashed import WordHashes, ngrams, plain_words, words_of
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object, refuse_pointer

WEIGHTS, DESCRIBED = "classifier.safetensors", "classifier.json"
_REMEDY = "name a folder that a stage of `data.models` wrote, or train it again"


class TextClassifier(Protocol):
    """P(positive), in [0, 1], of a text. A function of the text alone."""

    def __call__(self, text: str) -> float: ...


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


@dataclass
class LinearClassifier:
    """`weights` float32 (buckets); `most_words` n-grams have so many words at most; `plain`: of words
    without case and apart from punctuation, otherwise between blanks. A text without words has the bias alone."""

    weights: np.ndarray
    bias: float
    most_words: int
    plain: bool
    _hashes: WordHashes = field(default_factory=WordHashes)

    def features(self, text: str) -> np.ndarray:
        """The buckets of a text's n-grams, int64, each as often as it occurs."""
        words = plain_words(text) if self.plain else words_of(text)
        return ngrams(self._hashes.of(words), range(1, self.most_words + 1), len(self.weights))

    def __call__(self, text: str) -> float:
        found = self.features(text)
        mean = float(self.weights[found].mean(dtype=np.float64)) if len(found) else 0.0
        return sigmoid(mean + self.bias)

    def save(self, folder: Path) -> None:
        """Write it into `folder`, the same bytes for the same classifier."""
        save_file({"weights": self.weights.astype(np.float32)}, folder / WEIGHTS)
        said = {"bias": self.bias, "ngrams": self.most_words, "plain": self.plain}
        (folder / DESCRIBED).write_text(json.dumps(said, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> LinearClassifier:
        """Raises UserError for a classifier that is missing or damaged."""
        said = read_object(folder / DESCRIBED, _REMEDY)
        weights = tensors_of(folder / WEIGHTS, _REMEDY).get("weights")
        if weights is None or weights.dtype != np.float32 or weights.ndim != 1 or not np.isfinite(weights).all():
            raise UserError("these are no weights of a classifier", where=folder / WEIGHTS, remedy=_REMEDY)
        return LinearClassifier(weights, *_checked(said, folder / DESCRIBED))


def _checked(said: dict[str, Any], where: Path) -> tuple[float, int, bool]:
    bias, most, lower = said.get("bias"), said.get("ngrams"), said.get("plain")
    if not isinstance(bias, float) or not math.isfinite(bias) or type(most) is not int or most < 1 or type(lower) is not bool:
        raise UserError("not the description of a classifier", where=where, remedy=_REMEDY)
    return bias, most, lower


def tensors_of(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises UserError with `remedy` if it is missing, damaged, or a Git LFS pointer."""
    refuse_pointer(path)
    try:
        found: dict[str, np.ndarray] = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a type that NumPy does not have
        raise UserError(f"cannot read these tensors ({error})", where=path, remedy=remedy) from None
    return found
