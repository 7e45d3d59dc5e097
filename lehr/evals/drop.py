"""DROP's exact match and F1 (Dua et al. 2019) of answers that consist of spans.

The script that its authors give takes each predicted answer as a list of spans and never divides a text; lm-eval 0.4.13 takes
what a model wrote as one span. Here a task says what stands between the spans that a model writes (`separator`)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def spans(text: str, separator: str) -> list[str]:
    """The spans of a written answer: what stands between the separators and is not blank; with none (""), all of it."""
    parts = text.split(separator) if separator else [text]
    return [part for part in parts if part.strip()] or [""]


def exact_match(ours: Sequence[str], right: Sequence[str]) -> float:
    """1.0 if both are the same set of normalised spans, in any order, and as many."""
    return float(len(ours) == len(right) and {_normalised(s) for s in ours} == {_normalised(s) for s in right})


def f1(ours: Sequence[str], right: Sequence[str]) -> float:
    """The mean of the spans' F1 under the best one-to-one alignment, where a span without a partner counts 0; rounded to
    hundredths as the authors' script does."""
    bags = [set(_normalised(span).split()) for span in ours]
    table = [[_f1_of_bags(bag, gold) for bag in bags] for gold in (set(_normalised(span).split()) for span in right)]
    aligned = np.zeros(max(len(ours), len(right)))
    for gold, value in _best_alignment(table).items():
        aligned[gold] = value
    return float(np.round(np.mean(aligned), 2))  # numpy's rounding, and its order of sums: halves of a hundredth depend on them


def _f1_of_bags(ours: set[str], right: set[str]) -> float:
    """Over sets of words; 0 where `right` has numbers and `ours` none of them."""
    numbers = {word for word in right if _is_number(word)}
    if numbers and not numbers & ours:
        return 0.0
    precision = len(ours & right) / len(ours) if ours else 1.0
    recall = len(ours & right) / len(right) if right else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normalised(text: str) -> str:
    """Lower case, words divided at blanks and hyphens, numbers as floats, without ASCII punctuation and articles."""
    words: list[str] = []
    for token in re.split(r"[ -]", text.lower()):
        word = token if _is_number(token) else token.translate(_PUNCTUATION)
        word = str(float(word)) if _is_number(word) else word
        words += _ARTICLES.sub(" ", word).split()
    return " ".join(words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _best_alignment(table: Sequence[Sequence[float]]) -> dict[int, float]:
    """The value of each row in the one-to-one alignment of rows and columns with the highest sum, in which there are as many as
    the shorter side has: the Hungarian method by shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987), in
    O(shorter^2 x longer) steps."""
    given = np.array(table)
    values = given if (upright := given.shape[0] <= given.shape[1]) else given.T
    rows, columns = values.shape
    of_row, of_column = np.zeros(rows + 1), np.zeros(columns + 1)  # dual prices; row and column 0 are not of the table
    taken_by = np.zeros(columns + 1, int)
    for row in range(1, rows + 1):
        taken_by[0], column = row, 0
        least, before = np.full(columns + 1, np.inf), np.zeros(columns + 1, int)
        seen = np.zeros(columns + 1, bool)
        while column == 0 or taken_by[column]:
            seen[column] = True
            current = taken_by[column]
            costs = -values[current - 1] - of_row[current] - of_column[1:]
            shorter = ~seen[1:] & (costs < least[1:])
            least[1:][shorter], before[1:][shorter] = costs[shorter], column
            nearest = int(np.argmin(np.where(seen, np.inf, least)))
            step = least[nearest]
            of_row[taken_by[seen]] += step
            of_column[seen] -= step
            least[~seen] -= step
            column = nearest
        while column:
            taken_by[column] = taken_by[before[column]]
            column = int(before[column])
    chosen = [(int(row) - 1, column - 1) for column, row in enumerate(taken_by) if column and row]
    return {row if upright else column: float(values[row, column]) for row, column in chosen}
