"""Which documents are for training, and which are held back: a function of each document's place and of the shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN, DEV, HELD_OUT, GONE = 0, 1, 2, 3
NAMES = {TRAIN: "train", DEV: "dev", HELD_OUT: "held_out"}


@dataclass(frozen=True)
class Shares:
    """`dev` and `held_out` of the documents, but of each at most `most` documents: what a score needs does not grow with a
    corpus, and every one of them is compared with all others."""

    dev: float
    held_out: float
    most: int


def split(places: np.ndarray, alive: np.ndarray, shares: Shares) -> np.ndarray:
    """The split of each document, uint8. `places`: float64 in [0, 1), equal for pieces of one document; where `alive` is False
    it is GONE. Of too many, those with the lowest places in their range are held back, the others are for training."""
    found = np.where(alive, TRAIN, GONE).astype(np.uint8)
    ranges = ((HELD_OUT, 0.0, shares.held_out), (DEV, shares.held_out, shares.held_out + shares.dev))
    for name, low, high in ranges:
        mine = alive & (places >= low) & (places < high)
        inside = places[mine]
        if len(inside) > shares.most:
            high = float(np.partition(inside, shares.most)[shares.most])
        found[mine & (places < high)] = name
    return found
