"""Splits by the canonical form of a problem, never by its rendering.

A problem's key is what has to be solved (`add:38:47`), without names, objects, phrasing or operand order. Its split is a hash
of the key alone, and problems are phrased only after the split: the splits are disjoint by construction, in all families that
share the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from lehr.data.synthetic.draw import Draw
from lehr.runtime.errors import Bug
from lehr.runtime.seeds import derive, permute

Split = Literal["train", "dev", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "dev", "held_out")


def split_of(key: str) -> Split:
    """10 in 100 keys are held out, 10 are for development, the rest are for training."""
    bucket = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 100
    return "held_out" if bucket < 10 else "dev" if bucket < 20 else "train"


class Keyed(Protocol):
    """Anything made from one problem."""

    @property
    def key(self) -> str: ...

    @property
    def split(self) -> str: ...


def check_disjoint(sets: Mapping[str, Iterable[Keyed]]) -> dict[str, int]:
    """Verify over generated sets, by split name, that no problem is in two splits.

    Returns the number of different problems in each split. Raises Bug for the first problem that is in two, or in the wrong
    one.
    """
    owner: dict[str, str] = {}
    for split, items in sets.items():
        for item in items:
            first = owner.setdefault(item.key, split)
            if first != split:
                raise Bug(f"problem {item.key!r} is in the splits {first!r} and {split!r}")
            if item.split != split or split_of(item.key) != split:
                raise Bug(f"problem {item.key!r} belongs to {split_of(item.key)!r} but is in {split!r}")
    return {split: sum(1 for s in owner.values() if s == split) for split in sets}


@lru_cache(maxsize=256)
def _order(name: str, size: int, seed: int, epoch: int) -> np.ndarray:
    order = permute(np.arange(size), size, derive(seed, name, epoch))
    order.flags.writeable = False
    return order


def pick(name: str, size: int, index: int, seed: int) -> int:
    """Position `index` of an endless sequence over range(size) that visits everything once before it repeats anything."""
    return int(_order(name, size, seed, index // size)[index % size])


def drawn(seed: int, *names: str | int) -> Draw:
    """The draws that decide a problem's phrasing, names and operand order."""
    return Draw(seed, "dress", *names)
