"""fastText's files: one written out by hand is read as its definition says, damaged ones are refused."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from lehr.data.fasttext_file import FastText
from lehr.data.hashed import WordHashes, ngrams
from lehr.runtime.errors import UserError

BUCKETS = 5
INPUTS = np.arange(16, dtype=np.float32).reshape(8, 2) / 10  # 3 words, 5 buckets
OUTPUTS = np.array([[1.0, -1.0], [0.5, 0.25]], np.float32)


def written(path: Path, loss: int = 3, magic: int = 793712314) -> Path:
    arguments = struct.pack("<12id", 2, 5, 3, 1, 5, 2, loss, 3, BUCKETS, 0, 0, 100, 1e-4)
    entries = [("</s>", 0), ("good", 0), ("bad", 0), ("__label__hq", 1), ("__label__cc", 1)]
    dictionary = struct.pack("<iiiqq", 5, 3, 2, 100, -1)
    dictionary += b"".join(name.encode() + b"\0" + struct.pack("<qb", 9, kind) for name, kind in entries)
    matrices = b"".join(b"\0" + struct.pack("<qq", *m.shape) + m.tobytes() for m in (INPUTS, OUTPUTS))
    path.write_bytes(struct.pack("<ii", magic, 12) + arguments + dictionary + matrices)
    return path


def test_a_models_probability_is_that_of_its_definition(tmp_path: Path) -> None:
    """fastText 0.9.2 gave the same to within 2e-8 for 83 texts and a model of its own (docs/data.md)."""
    model = FastText.read(written(tmp_path / "model.bin"), "__label__cc")
    pairs = ngrams(WordHashes().of(["good", "new", "</s>"]), range(2, 3), BUCKETS)
    hidden = INPUTS[[1, 0, *(3 + pairs)]].mean(0)  # `new` is no word of the model, but part of its pairs
    high, other = OUTPUTS @ hidden
    assert model("good new") == pytest.approx(1 / (1 + math.exp(high - other)) + 1e-5, rel=1e-6)
    assert model("good\nnew") == model("good new")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"loss": 1}, "softmax"), ({"magic": 5}, "no fastText model"), ({"cut": 40}, "damaged"), ({"label": "xx"}, "hq, cc")],
)
def test_another_file_is_one_line(tmp_path: Path, change: dict, says: str) -> None:
    cut, label = change.pop("cut", 0), change.pop("label", "hq")
    path = written(tmp_path / "model.bin", **change)
    path.write_bytes(path.read_bytes()[: -cut or None])
    with pytest.raises(UserError, match=says) as error:
        FastText.read(path, label)
    assert "\n" not in str(error.value)
