"""The language of a text: py3langid's model, walked over many places of the text at once.

The model is an automaton over bytes that finds n-grams of at most 6 bytes, and a naive Bayes classifier over their counts. Its state
depends on the last bytes alone, so that pieces of the text can be walked side by side, each from 6 bytes before its beginning: the
same features as py3langid's own loop finds one byte after the other, thirty times as fast.
"""

from __future__ import annotations

import math
import unicodedata
from functools import cache

import numpy as np

from lehr.config.filters.text import UNKNOWN
from lehr.data.languages import DIALECTS

_CHARACTERS, _PLACES = 2000, 4  # of a text that are looked at, in so many places
_REACH = 6  # bytes of the longest n-gram
_STEP = 24  # bytes of a piece
_NO_LANGUAGE = "zxx"  # the model's label of what is none


class _Model:
    """py3langid's tables. States are numbered by their row times 256."""

    def __init__(self) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        loaded = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.next = np.asarray(loaded.tk_nextmove)
        self.row = np.asarray(loaded.tk_row, np.int64) << 8
        self.found = np.asarray(loaded.tk_output, np.int64)  # the feature of a state, or -1
        self.weights, self.prior = np.asarray(loaded.nb_ptc), np.asarray(loaded.nb_pc)
        labels = [UNKNOWN if c == _NO_LANGUAGE else DIALECTS.get(c, c) for c in loaded.nb_classes]
        self.languages = list(dict.fromkeys(labels))
        self.place = np.array([self.languages.index(label) for label in labels])  # several labels may be one language

    def probabilities(self, raw: bytes) -> np.ndarray:
        """Of `languages`, as py3langid normalises them: by the square root of the number of bytes."""
        features, counts = np.unique(self._features(raw), return_counts=True)
        scores = self.prior.astype(np.float32)
        if len(features):
            scores = scores + np.log1p(counts.astype(np.float32)) @ self.weights[features].astype(np.float32)
        else:
            scores = np.zeros_like(scores)
        scores *= 1 / math.sqrt(len(raw) or 1)
        each = np.exp(scores - scores.max())
        return np.bincount(self.place, each / each.sum(), len(self.languages))

    def _features(self, raw: bytes) -> np.ndarray:
        """The features in `raw`, each as often as it occurs. Bytes of zero, in no n-gram, lead back to the first state."""
        pieces = -(-len(raw) // _STEP)
        padded = np.zeros(pieces * _STEP + _REACH, np.uint8)
        padded[_REACH : _REACH + len(raw)] = np.frombuffer(raw, np.uint8)
        columns = np.lib.stride_tricks.sliding_window_view(padded, _STEP + _REACH)[::_STEP].T
        state, found = np.zeros(pieces, np.int64), np.empty((_STEP, pieces), np.int64)
        for step, column in enumerate(columns):
            state = self.next[self.row[state] + column]
            if step >= _REACH:
                found[step - _REACH] = self.found[state]
        own = found.T.ravel()[: len(raw)]
        return own[own >= 0]


@cache
def _model() -> _Model:
    return _Model()


def identify(text: str) -> tuple[str, float]:
    """The language, an ISO 639-1 code or `unknown`, and the model's confidence in it."""
    raw = _sample(text)
    if not raw:
        return UNKNOWN, 0.0
    model = _model()
    probabilities = model.probabilities(raw)
    best = int(probabilities.argmax())
    return model.languages[best], float(probabilities[best])


def _sample(text: str) -> bytes:
    """Up to 2,000 characters as the model expects them: from four places of a longer text."""
    if len(text) > _CHARACTERS:
        length, gap = _CHARACTERS // _PLACES, (len(text) - _CHARACTERS // _PLACES) // (_PLACES - 1)
        text = "\n".join(text[i * gap : i * gap + length] for i in range(_PLACES))
    if text.isupper():
        text = text.lower()
    return unicodedata.normalize("NFC", text).encode(errors="surrogatepass")
