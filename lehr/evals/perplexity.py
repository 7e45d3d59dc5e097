"""Bits per byte of running text: the same function during training and afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lehr.evals.estimate import Estimate, ratio
from lehr.evals.task import TextModel

Request = tuple[list[int], list[int]]  # ids of the context and of the continuation


def windows(ids: Sequence[int], first: int, width: int) -> list[Request]:
    """A text's tokens as requests of at most `width` predicted tokens; every token is predicted once.

    The text's first token is predicted from `first` (end of text, since documents follow one another in training), a later
    window's first token from the last token of the window before.
    """
    return [([ids[s - 1] if s else first], list(ids[s : s + width])) for s in range(0, len(ids), width)]


def strided(ids: Sequence[int], first: int, window: int, stride: int) -> list[Request]:
    """A text's tokens as requests in which the model reads at most `window` tokens; every token is predicted once.

    The first request begins with `first` and predicts `window` tokens. Each later one predicts the next `stride` tokens, or
    those that are left, and begins where `window` tokens before its last one begin: it has window - stride + 1 tokens of
    context or more. With stride = window these are disjoint, but for the token before them and the last one, which is filled
    up with what stands before it: lm-eval's `loglikelihood_rolling`, which Paloma's own code calls (allenai/catwalk,
    language_model.py, `predict_chunk_perplexity`; Paloma, Magnusson et al. 2024, guideline G5). 1 <= stride <= window.
    """
    found: list[Request] = [([first], list(ids[:window]))] if ids else []
    for start in range(window, len(ids), stride):
        end = min(start + stride, len(ids))
        found.append((list(ids[end - window - 1 : start]), list(ids[start:end])))
    return found


def text_bits(model: TextModel, texts: Sequence[str], width: int) -> list[float]:
    """The negative log-likelihood of each text in bits, in windows of `width` tokens."""
    tokenizer = model.tokenizer
    parts = [windows(tokenizer.encode(t), tokenizer.eos_id, width) for t in texts]
    scores = iter(model.logprobs([window for part in parts for window in part]))
    return [math.fsum(-next(scores)[0] for _ in part) / math.log(2) for part in parts]


def bits_per_byte(model: TextModel, texts: Sequence[str], width: int, families: Sequence[str] = ()) -> dict[str, Estimate]:
    """{"bits_per_byte": estimate}, in windows of `width` tokens: negative log-likelihood / (ln 2 x UTF-8 bytes), both summed
    over the texts before dividing. `families` names the document from which each text was cut, for the standard error."""
    return {"bits_per_byte": ratio(text_bits(model, texts, width), [len(t.encode()) for t in texts], families)}


def bits_per_byte_by(groups: Sequence[str], texts: Sequence[str], bits: Sequence[float]) -> dict[str, float]:
    """`bits_per_byte` of all texts; if there are several groups, also `bits_per_byte@GROUP` of each."""
    found: dict[str, float] = {}
    sizes = [len(t.encode()) for t in texts]
    several = sorted(set(groups)) if len(set(groups)) > 1 else []
    for group in ("", *several):
        own = [i for i, of in enumerate(groups) if group in ("", of)]
        found["bits_per_byte" + ("@" + group if group else "")] = ratio([bits[i] for i in own], [sizes[i] for i in own]).value
    return found
