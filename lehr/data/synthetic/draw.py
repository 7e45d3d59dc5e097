"""Random draws as a pure function of a seed and a purpose: the same under every Python version, unlike `random.choice`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from lehr.runtime.seeds import derive

T = TypeVar("T")

_MASK64 = (1 << 64) - 1


class Draw:
    """A short stream of draws for one purpose: splitmix64 (Steele et al. 2014) from `derive(seed, *names)`."""

    def __init__(self, seed: int, *names: str | int) -> None:
        self._state = derive(seed, *names)

    def below(self, n: int) -> int:
        """An integer in [0, n). The modulo's bias is below n / 2^64."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK64
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
        return (z ^ (z >> 31)) % n

    def coin(self) -> bool:
        return self.below(2) == 1

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """`k` different items of `items`, in the order drawn."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(k)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.sample(items, len(items))
