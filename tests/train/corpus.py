"""A few lines of text as shards, and a model with its vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lehr.data.document import Document
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from tests.train.pieces import MODEL

MODEL_320 = MODEL.model_copy(update={"vocab_size": 320})


def corpus(folder: Path) -> Path:
    """Tokenizer and shard `a` in `folder`; one document repeats itself, so that its instances are masked."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["sun", "moon", "star", "12", "rose", "at"], 30)) for _ in range(60)]
    texts.append("ha " * 90)
    tokenizer = Tokenizer.train(texts, 320)
    tokenizer.save(folder)
    write_shards((Document(str(i), "a", t) for i, t in enumerate(texts)), "a", tokenizer, folder)
    return folder
