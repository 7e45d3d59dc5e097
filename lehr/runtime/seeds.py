"""Randomness and order as pure functions of named seeds (DESIGN principle 8): no generator state to save or lose."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

_ROUNDS = 6
_TABLE = 4096  # up to this size a permutation is a table: a Feistel network over so few numbers is far from uniform
_MASK64 = (1 << 64) - 1


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose `names`, independent of those for other purposes."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniform_hash(text: str) -> float:
    """A stable number in [0, 1) for a text: the same on every machine, so that splits never change."""
    bits = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 11
    return bits / 2.0**53  # a double holds 53 bits: all 64 would sometimes round up to 1.0


def _mix(x: np.ndarray, key: int) -> np.ndarray:
    """The keyed finaliser of splitmix64, as the Feistel network's round function."""
    z = x + np.uint64(key & _MASK64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keyed_uniform(start: int, count: int, key: int) -> np.ndarray:
    """`count` numbers in [0, 1), float64: those of the counters from `start` on under `key`. Cut into blocks anywhere, they are
    the same."""
    counters = np.arange(start, start + count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = _mix(counters * np.uint64(0x9E3779B97F4A7C15), key)  # splitmix64's increment
    return (bits >> np.uint64(11)).astype(np.float64) / 2.0**53


def permute(index: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Keyed permutation of range(size), evaluated only at `index`, for any size up to 2**62.

    Small sizes are sorted by keyed hashes, which makes every order equally likely. Above 4,096 no table is kept: a balanced
    Feistel network over the next even power of two, with cycle walking back into range.
    `index` is an integer array; the result has its shape and dtype int64. Raises ValueError for an index outside [0, size),
    from which the walk back into range would not end.
    """
    return _walk(index, size, seed, forward=True)


def below(size: int, seed: int) -> int:
    """One of 0 .. size - 1."""
    return int(permute(np.array([0]), size, seed)[0])


def unpermute(index: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The inverse of `permute`: unpermute(permute(i)) == i. Raises ValueError as it does."""
    return _walk(index, size, seed, forward=False)


def _walk(index: np.ndarray, size: int, seed: int, *, forward: bool) -> np.ndarray:
    if size <= 0:
        raise ValueError(f"size must be positive, not {size}")
    index = np.asarray(index)
    if index.size and (index.min() < 0 or index.max() >= size):
        raise ValueError(f"index outside [0, {size})")
    if size <= _TABLE:
        return _table(size, seed, forward)[index.astype(np.int64)]
    return _feistel(index, size, seed, forward=forward)


@lru_cache(maxsize=64)
def _table(size: int, seed: int, forward: bool) -> np.ndarray:
    """The whole permutation, or its inverse: int64, read-only."""
    keys = np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment
    order = np.argsort(_mix(keys, derive(seed, "table")), kind="stable")
    table = order if forward else np.argsort(order)
    table.flags.writeable = False
    return table


def _feistel(index: np.ndarray, size: int, seed: int, *, forward: bool) -> np.ndarray:
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = [derive(seed, "feistel", r) * 2 + 1 for r in range(_ROUNDS)]

    def turn(x: np.ndarray) -> np.ndarray:
        left, right = x >> shift, x & low
        if forward:
            for key in keys:
                left, right = right, left ^ (_mix(right, key) & low)
        else:
            for key in reversed(keys):
                left, right = right ^ (_mix(left, key) & low), left
        return (left << shift) | right

    with np.errstate(over="ignore"):
        out = turn(index.reshape(-1).astype(np.uint64))
        outside = out >= np.uint64(size)
        # Cycle walking: apply the permutation again to results out of range. Less than four tries on average, since the
        # network's range is at most four times `size`.
        while outside.any():
            out[outside] = turn(out[outside])
            outside = out >= np.uint64(size)
    return out.astype(np.int64).reshape(index.shape)
