"""Randomness as functions: permutations are permutations, purposes are independent, values never move."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.runtime.seeds import derive, permute, uniform_hash, unpermute


@given(st.integers(1, 6000), st.integers(0, 2**63 - 1))
def test_permute_is_a_permutation(size: int, seed: int) -> None:
    moved = permute(np.arange(size), size, seed)
    assert sorted(moved.tolist()) == list(range(size))
    assert unpermute(moved, size, seed).tolist() == list(range(size))


@given(st.integers(1, 2**62), st.integers(0, 2**32), st.data())
def test_permute_is_evaluated_anywhere_without_a_table(size: int, seed: int, data: st.DataObject) -> None:
    index = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8, unique=True)))
    out = permute(index, size, seed)
    assert len(set(out.tolist())) == len(index) and out.min() >= 0 and out.max() < size
    assert [int(permute(np.array(i), size, seed)) for i in index] == out.tolist()  # one by one, from scalars


def test_permute_is_uniform_in_first_order() -> None:
    """Where item 0 lands over 4,000 seeds: chi-squared with 15 degrees of freedom, 99.9 % quantile 37.7."""
    counts = np.bincount([int(permute(np.array([0]), 16, seed)[0]) for seed in range(4000)], minlength=16)
    assert (((counts - 250) ** 2) / 250).sum() < 37.7


@pytest.mark.parametrize(("size", "orders", "limit"), [(3, 6, 20.5), (4, 24, 49.7), (5, 120, 173.7)])
def test_every_order_of_a_few_is_as_likely(size: int, orders: int, limit: float) -> None:
    """Chi-squared over all orders, with orders - 1 degrees of freedom; `limit` is the 99.9 % quantile."""
    seen = Counter(tuple(permute(np.arange(size), size, seed).tolist()) for seed in range(100 * orders))
    assert (sum((count - 100) ** 2 for count in seen.values()) + (orders - len(seen)) * 100**2) / 100 < limit


def test_permute_refuses_what_would_never_end() -> None:
    for index in ([-1], [5]):
        with pytest.raises(ValueError, match="outside"):
            permute(np.array(index), 5, 0)
    with pytest.raises(ValueError, match="positive"):
        permute(np.array([0]), 0, 0)


def test_shapes_and_values_are_pinned() -> None:
    """Splits, orders and therefore results of old runs hang on these numbers."""
    assert permute(np.arange(6).reshape(2, 3), 6, 42).shape == (2, 3)
    assert permute(np.arange(8), 8, 42).tolist() == [2, 7, 3, 4, 0, 1, 5, 6]
    assert permute(np.arange(4), 5000, 42).tolist() == [118, 2599, 3335, 1108]
    assert derive(7, "stage1", 3) == 9_027_765_789_531_553_020
    assert f"{uniform_hash('document 1'):.12f}" == "0.466926782746"


def test_derived_seeds_depend_on_every_name_and_fit_torch() -> None:
    seeds = {derive(s, *names) for s in (0, 1) for names in ((), ("a",), ("b",), ("a", 0), ("a", 1), ("a", "b"))}
    assert len(seeds) == 12 and all(0 <= s < 2**63 for s in seeds)


def test_uniform_hash_is_uniform() -> None:
    values = np.array([uniform_hash(str(i)) for i in range(5000)])
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.02
