"""Encoding with a cache of words: words repeat, so most of a corpus is looked up instead of merged again."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

# Characters whose classes are the same in every version of Unicode that Python or the library may use: Latin and punctuation.
# A text with any other character goes to the library.
_CHARACTERS = [chr(c) for c in (*range(0x250), *range(0x2000, 0x2070))]


def _class(wanted: Callable[[str], bool]) -> str:
    return "".join(re.escape(c) for c in _CHARACTERS if wanted(c))


_L = _class(lambda c: unicodedata.category(c)[0] == "L")
_N = _class(lambda c: unicodedata.category(c)[0] == "N")
_S = _class(lambda c: c in "\t\n\v\f\r \x85" or unicodedata.category(c) in ("Zs", "Zl", "Zp"))  # White_Space
_STRANGE = re.compile("[^" + _class(lambda c: unicodedata.category(c) != "Cn") + "]")
# The pieces into which our pre-tokenizer (single digits, then GPT-2's pattern) splits a text. Digits end a piece, so white
# space before a digit is never split, unlike white space before a letter.
_PIECES = re.compile(f"[{_N}]|'s|'t|'re|'ve|'m|'ll|'d| ?[{_L}]+| ?[^{_S}{_L}{_N}]+|[{_S}]+(?![^{_S}{_N}])|[{_S}]+")
_MOST = 1 << 20  # words cached: bounds the memory
_CORES = 8  # from this many cores on the library's own threads are faster than this single Python thread


class Words:
    """`encode(texts)`: the ids that `backend` gives for each text, several times faster on one core. A word's ids are cached as
    the bytes of an array, so that a text's ids are joined without creating Python integers."""

    def __init__(self, backend: Backend, dtype: np.dtype) -> None:
        self._backend, self._dtype, self._known = backend, dtype, dict[str, bytes]()

    @staticmethod
    def serve(backend: Backend) -> bool:
        """Whether `backend` splits texts into the pieces above (a plain BPE after our pre-tokenizer), on a small machine."""
        parts = json.loads(backend.to_str())
        return parts["pre_tokenizer"] == _ours() and _is_plain(parts) and _cores() < _CORES

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, as `dtype`."""
        strange = [_STRANGE.search(t) is not None for t in texts]
        other = [t for t, is_strange in zip(texts, strange, strict=True) if is_strange]
        whole = iter(self._encode(other))
        pieces = [[] if is_strange else _PIECES.findall(t) for t, is_strange in zip(texts, strange, strict=True)]
        if len(self._known) > _MOST:
            self._known.clear()
        new = list(set(chain.from_iterable(pieces)).difference(self._known))
        self._known.update(zip(new, self._encode(new), strict=True))
        look = self._known.__getitem__
        return [
            np.frombuffer(next(whole) if is_strange else b"".join(map(look, found)), self._dtype)
            for found, is_strange in zip(pieces, strange, strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> list[bytes]:
        found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(e.ids, self._dtype).tobytes() for e in found]


def _cores() -> int:
    """Those that the library's threads have: one where it was told to start none, as in one of many processes."""
    return 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else os.cpu_count() or 1


def _is_plain(parts: dict[str, Any]) -> bool:
    model = parts["model"]
    plain = model["type"] == "BPE" and not model["dropout"] and not model["ignore_merges"]
    # Added tokens that are not special are matched in the whole text, across pieces.
    return plain and parts["normalizer"] is None and all(token["special"] for token in parts["added_tokens"])


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Every digit a token of its own, then GPT-2's pattern, then bytes."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


@cache
def _ours() -> object:
    """Our pre-tokenizer as `tokenizer.json` describes it."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizer()
    return json.loads(backend.to_str())["pre_tokenizer"]
