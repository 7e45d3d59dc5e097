"""Answers that are wrong by a number: negatives made of gold answers (Granite 3.0 appendix B.3.2: "we switched one or more
numeric values with a different but close value")."""

from __future__ import annotations

import re

import numpy as np

from lehr.runtime import seeds

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_NEAR = 0.1  # of the number: how far its twin is at most, but at least one in its last digit


def perturbed(text: str, seed: int) -> str | None:
    """`text` with some of its numbers, at least one, changed by up to a tenth, written as before. None if it has no number."""
    places = list(_NUMBER.finditer(text))
    if not places:
        return None
    count = 1 + seeds.below(len(places), seeds.derive(seed, "count"))
    changed = set(seeds.permute(np.arange(count), len(places), seeds.derive(seed, "which")).tolist())
    out, after = [], 0
    for number, found in enumerate(places):
        out.append(text[after : found.start()])
        out.append(_near(found[0], seeds.derive(seed, "value", number)) if number in changed else found[0])
        after = found.end()
    return "".join([*out, text[after:]])


def _near(number: str, seed: int) -> str:
    """Another number of as many decimals, with commas if it had some; never negative, never the same."""
    whole, point, decimals = number.rstrip(",").partition(".")
    trailing = number[len(number.rstrip(",")) :]
    value = int(whole.replace(",", "") + decimals)
    reach = max(1, int(value * _NEAR))
    away = 1 + seeds.below(reach, seeds.derive(seed, "away"))
    other = value - away if seeds.below(2, seeds.derive(seed, "side")) and value >= away else value + away
    digits = f"{other:0{len(decimals) + 1}d}"
    first, last = digits[: len(digits) - len(decimals)], digits[len(digits) - len(decimals) :]
    grouped = f"{int(first):,}" if "," in whole else first
    return f"{grouped}{point}{last}{trailing}"
