"""Majority votes: what is kept is what most answers say, and every other answer is on record."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.post.sets import votes
from lehr.post.sets.votes import majority, result_of
from lehr.runtime.errors import UserError
from tests.post.sets.test_prepare import TOKENIZER, prepare


@given(st.lists(st.sampled_from(["", "1", "2", "3"]), max_size=9))
def test_a_majority_is_more_than_half_of_all_answers(results: list[str]) -> None:
    """Those without a result count as answers, and vote for none."""
    expected = [r for r in set(results) - {""} if sum(1 for other in results if other == r) * 2 > len(results)]
    assert [majority(results)] == (expected or [""])


@pytest.mark.parametrize(
    ("how", "text", "result"),
    [
        ("number", "so it is $1,234.50.", "1234.5"), ("number", "#### 7 apples of 9", "7"), ("number", "-0", "0"),
        ("number", "100", "100"), ("number", f"1{'0' * 60}1", f"1{'0' * 60}1"), ("number", "none", ""),
        ("boxed", r"\boxed{1} then \boxed{\frac{1}{2 }}.", r"\frac{1}{2}"), ("boxed", "4", ""), ("boxed", r"\boxed{4", ""),
        ("text", "The  Sun.", "sun"),
    ],
)  # fmt: skip
def test_what_an_answer_is_counted_as(how: str, text: str, result: str) -> None:
    assert result_of(text, how) == result


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=1, max_size=5), st.integers(1, 6))
def test_one_answer_of_each_majority_is_trained_on(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], least: int
) -> None:
    """Against a count by hand: read = kept + dropped, in answers, and the record names each."""
    tmp_path = tmp_path_factory.mktemp("votes")
    path = tmp_path / "votes.jsonl"
    said = [[f"{'answer ' * n}is {value}" for n, value in enumerate(row, 1)] for row in rows]
    path.write_text("".join(json.dumps({"prompt": f"question {i}", "completions": c}) + "\n" for i, c in enumerate(said)))
    kept, reasons = list[str](), Counter[str]()
    for row, texts in zip(rows, said, strict=True):
        value, count = Counter(row).most_common(1)[0]
        if len(row) < least or 2 * count <= len(row):
            reasons[votes.FEW if len(row) < least else votes.NONE] += len(row)
            continue
        kept.append(texts[row.index(value)])
        reasons[votes.ANOTHER] += count - 1
        reasons[votes.AGAINST] += len(row) - count
    if not kept:
        with pytest.raises(UserError, match="no conversation of 'mine' is left"):
            prepare(tmp_path, {"mine": "all"}, path=str(path), majority_of=least)
        return
    pool, sets = prepare(tmp_path, {"mine": "all"}, path=str(path), majority_of=least)
    texts = [TOKENIZER.decode([i for i, mine in zip(r.ids, r.mask, strict=True) if mine][:-1]) for r in pool]
    assert texts == kept
    found = sets["mine"]
    assert found.dropped == +reasons and found.read == sum(map(len, rows)) == found.kept + found.dropped.total()
    lines = [json.loads(line) for line in gzip.decompress((tmp_path / "out/dropped.jsonl.gz").read_bytes()).splitlines()]
    assert Counter(line["reason"] for line in lines) == +reasons and len({line["id"] for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("row", "keys", "said"),
    [
        ({"prompt": "a", "completions": ["b", "b"]}, {}, "several completions of one prompt. Set the source's majority_of"),
        ({"prompt": "a", "completion": "b"}, {"majority_of": 3}, "no completions to vote on"),
        ({"prompt": "a", "completions": []}, {"majority_of": 3}, "is no list of answers"),
        ({"prompt": "a", "completions": ["b", ""]}, {"majority_of": 2}, "turn 1, of the assistant, is empty"),
    ],
)
def test_rows_without_a_vote_are_named(row: dict[str, Any], keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as raised:
        prepare(tmp_path, {"mine": "all"}, path=str(path), **keys)
    assert said in str(raised.value) and f"{path}:1" in str(raised.value)
