"""Numbers that somebody else writes: in variables, node annotations, lists of GPUs."""

from __future__ import annotations

import pytest

from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError
from lehr.tasks.requests import counts


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "١", "²", "9" * 16, "9" * 5_000])
def test_only_a_number_of_a_few_ascii_digits_is_one(text: str) -> None:
    """`int` raises ValueError for more than 4,300 digits, and `str.isdigit` is true for two of these that are no number."""
    assert digits(text) is None
    with pytest.raises(UserError, match="is not a known amount"):
        counts(f"ranks={text}" if text else "ranks=0")


def test_a_number_is_read() -> None:
    assert (digits("0"), digits("007"), digits("9" * 15)) == (0, 7, 10**15 - 1)
    assert counts("nodes=4,ranks=8") == (4, 8)
