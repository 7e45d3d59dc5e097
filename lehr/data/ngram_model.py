"""An n-gram language model with back-off, as KenLM and ARPA files define it.

The n-grams of order n are numbered in the order of (number of their first n - 1 words, last word): one sorted array an order,
and no hashes that could collide. Letters: T words of a text with the marks around its lines, V words of the vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

from lehr.data.hashed import plain_words
from lehr.data.linear import tensors_of
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

Normalise = Literal["none", "plain"]
TENSORS, DESCRIBED = "ngrams.safetensors", "ngrams.json"
UNKNOWN, BEGIN, END = 0, 1, 2
MARKS = ("<unk>", "<s>", "</s>")
NEVER = -99.0  # log10 of a probability that is not used, as ARPA files have it
_REMEDY = "name a folder that a stage of `data.models` wrote, or train it again"


def words_in_lines(text: str, normalise: Normalise) -> Iterator[list[str]]:
    """The words of each line that has any: between blanks, or (`plain`) in lower case, digits as 0, each punctuation mark a
    word of its own. Words that are a model's marks are left out."""
    for line in text.split("\n"):
        words = line.split() if normalise == "none" else plain_words(line)
        if normalise == "none" and any(mark in words for mark in MARKS):
            words = [word for word in words if word not in MARKS]
        if words:
            yield words


@dataclass
class Order:
    """The n-grams of one order: `keys` uint64, ascending (none for single words); log10 probabilities and back-off weights."""

    keys: np.ndarray
    logs: np.ndarray
    backoffs: np.ndarray

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """The number of each wanted key, -1 where there is none; int64."""
        if not len(self.keys):
            return np.full(len(wanted), -1, np.int64)
        place = np.searchsorted(self.keys, wanted)
        place[place == len(self.keys)] = 0
        found: np.ndarray = np.where(self.keys[place] == wanted, place, -1)
        return found


@dataclass
class NgramLanguageModel:
    """`words` -> number; `orders` from single words on."""

    words: dict[str, int]
    orders: list[Order]
    normalise: Normalise

    def perplexity(self, text: str) -> float:
        """10^(-mean log10 probability of a word or end of line). NaN for a text without words."""
        lines = list(words_in_lines(text, self.normalise))
        if not lines:
            return math.nan
        ids_T = numbers(lines, self.words)
        logs_T = self.logs(ids_T)[ids_T != BEGIN]
        mean = -float(logs_T.mean())
        return 10.0**mean if mean < 300 else math.inf

    def logs(self, ids_T: np.ndarray) -> np.ndarray:
        """log10 of the probability of each word after those before it in its line, float64 (T).

        A mark of a line's beginning follows nothing in any n-gram, so none is found across two lines."""
        count = len(self.words)
        logs_T: np.ndarray = self.orders[0].logs[ids_T].astype(np.float64)
        ending_T = ids_T  # the number of the n-gram that ends at each word, -1 where there is none
        for lower, order in zip(self.orders[:-1], self.orders[1:], strict=True):
            before_T = np.concatenate([[-1], ending_T[:-1]])  # the same, one word earlier: the context
            known = np.flatnonzero(before_T >= 0)
            found = order.find(before_T[known].astype(np.uint64) * np.uint64(count) + ids_T[known].astype(np.uint64))
            hit = found >= 0
            logs_T[known] += lower.backoffs[before_T[known]]
            logs_T[known[hit]] = order.logs[found[hit]]
            ending_T = np.full(len(ids_T), -1, np.int64)
            ending_T[known] = found
        return logs_T

    def save(self, folder: Path) -> None:
        """Write it into `folder`, the same bytes for the same model."""
        joined = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        tensors = {"words": joined} | {
            f"{name}{n}": getattr(order, name)
            for n, order in enumerate(self.orders, 1)
            for name in ("keys", "logs", "backoffs")
        }
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, folder / TENSORS)
        said = {"order": len(self.orders), "normalise": self.normalise}
        (folder / DESCRIBED).write_text(json.dumps(said, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> NgramLanguageModel:
        """Raises UserError for a model that is missing or damaged."""
        said, tensors = read_object(folder / DESCRIBED, _REMEDY), tensors_of(folder / TENSORS, _REMEDY)
        try:
            listed = tensors["words"].tobytes().decode().split("\n")
            parts = ("keys", "logs", "backoffs")
            orders = [Order(*(tensors[f"{name}{n}"] for name in parts)) for n in range(1, said["order"] + 1)]
            if said["normalise"] not in ("none", "plain") or not orders:
                raise ValueError("its description")
            check(listed, orders)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"damaged language model ({error})", where=folder, remedy=_REMEDY) from None
        return NgramLanguageModel({word: n for n, word in enumerate(listed)}, orders, said["normalise"])


def numbers(lines: Sequence[Sequence[str]], words: dict[str, int]) -> np.ndarray:
    """The numbers of all words, with marks around every line; int64 (T)."""
    out = list[int]()
    for line in lines:
        out += [BEGIN, *(words.get(word, UNKNOWN) for word in line), END]
    return np.array(out, np.int64)


def check(words: Sequence[str], orders: Sequence[Order]) -> None:
    """Raises ValueError for parts that do not belong to each other or are no probabilities."""
    if tuple(words[:3]) != MARKS or len(set(words)) != len(words) or len(orders[0].logs) != len(words):
        raise ValueError("its words")
    previous = len(words)
    for n, order in enumerate(orders, 1):
        if not (len(order.logs) == len(order.backoffs) == (len(order.keys) if n > 1 else len(words))):
            raise ValueError(f"its {n}-grams")
        if not (np.isfinite(order.logs).all() and np.isfinite(order.backoffs).all() and (order.logs <= 0).all()):
            raise ValueError(f"its {n}-grams' probabilities")
        if n > 1 and len(order.keys):
            ascending = order.keys.dtype == np.uint64 and (order.keys[1:] > order.keys[:-1]).all()
            if not ascending or int(order.keys[-1]) // len(words) >= previous:
                raise ValueError(f"its {n}-grams' order")
        previous = len(order.logs)
