"""A short sequence over and over (OLMo 2 section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lehr.config.filters.text import RepeatedNgramFilter
from lehr.data.document import Document
from lehr.data.repeats import most_repeats
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.errors import UserError


def make(config: RepeatedNgramFilter) -> Filter:
    """Raises UserError for a tokenizer that cannot be read."""
    numbers = _tokens(config.tokenizer) if config.unit == "tokens" else lambda text: text_of(text).ids

    def repeated_ngram(document: Document) -> Keep | Drop:
        repeats = most_repeats(numbers(document.text), config.max_period)
        scores = {"repeated_ngram.repeats": float(repeats)}
        if config.max_repeats is not None and repeats > config.max_repeats:
            return Drop("repeated n-gram", scores)
        return Keep(scores)

    return repeated_ngram


def _tokens(path: str) -> Callable[[str], np.ndarray]:
    import tokenizers

    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise UserError("there is no tokenizer.json here", where=path, remedy="correct `tokenizer` of this filter")
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"this is no tokenizer ({error})", where=file, remedy="name a tokenizer.json") from None
    return lambda text: np.array(backend.encode(text, add_special_tokens=False).ids, np.int64)
