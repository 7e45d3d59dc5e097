"""Which conversations of each set an epoch has: a number of them, all, or a share of the step's samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lehr.config.chat import share_of
from lehr.runtime import seeds


def wanted(amounts: Mapping[str, int | str], sizes: Mapping[str, int], samples: int) -> dict[str, int]:
    """The number of rows of each set. Shares are of `samples`, and may add up to less than all of them."""
    found = {}
    for name, amount in amounts.items():
        share = share_of(amount)
        if share is not None:
            found[name] = max(1, round(share * samples))
        else:
            found[name] = sizes[name] if amount == "all" else int(amount)
    return found


def drawn(first: int, size: int, count: int, seed: int) -> Iterator[int]:
    """The numbers of `count` rows of a set whose rows are numbered from `first`: every row equally often, but for one; in a new
    order each time."""
    for again in range(-(-count // size)):
        left = min(size, count - again * size)
        if left == size and not again:
            yield from range(first, first + size)
            continue
        chosen = seeds.permute(np.arange(left), size, seeds.derive(seed, "drawn", again))
        yield from (first + int(index) for index in chosen)
