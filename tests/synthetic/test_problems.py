"""Generated problems: right, reproducible, and disjoint between the splits."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from lehr.config.sources import SyntheticSource
from lehr.data.synthetic import Problem, check_disjoint, conversation, documents, problem, split_of
from lehr.data.synthetic.conversations import FAMILIES as CHAT_FAMILIES
from lehr.data.synthetic.conversations import count
from lehr.data.synthetic.multiple_choice import multiple_choice
from lehr.data.synthetic.problems import FAMILIES, key_of, pool, working
from lehr.data.synthetic.splits import SPLITS, Keyed, Split
from lehr.post.verifiers import has_prefix, last_integer, verify
from lehr.runtime.errors import Bug, UserError


@pytest.mark.parametrize(
    ("a", "b", "operation", "text"),
    [
        (47, 38, "add", "47 + 38 = 7 + 8 = 15, 4 + 3 + 1 = 8, so 85"),
        (42, 35, "add", "42 + 35 = 2 + 5 = 7, 4 + 3 = 7, so 77"),
        (99, 99, "add", "99 + 99 = 9 + 9 = 18, 9 + 9 + 1 = 19, so 198"),
        (22, 15, "subtract", "22 - 15 = 12 - 5 = 7, 1 - 1 = 0, so 7"),
        (58, 17, "subtract", "58 - 17 = 8 - 7 = 1, 5 - 1 = 4, so 41"),
    ],
)
def test_working_as_taught_at_school(a: int, b: int, operation: str, text: str) -> None:
    assert working(a, b, operation) == text


def test_every_step_of_every_working_is_true() -> None:
    for a in range(100):
        for b in range(100):
            for operation, sign in (("add", 1), ("subtract", -1)):
                if operation == "subtract" and b > a:
                    continue
                ones, tens, conclusion = working(a, b, operation).split(" = ", 1)[1].split(", ")
                for step in (ones, tens):
                    left, right = step.split(" = ")
                    terms = [int(n) for n in re.findall(r"\d+", left)]
                    assert terms[0] + sign * terms[1] + sum(terms[2:]) == int(right)
                digits = int(ones.split(" = ")[1]) % 10 + 10 * int(tens.split(" = ")[1])
                assert conclusion == f"so {a + sign * b}" and digits == a + sign * b


def test_splits_are_about_ten_percent_and_never_move() -> None:
    sizes = {split: len(pool("arithmetic", split)) for split in SPLITS}
    assert 2 * 5050 - 60 < sum(sizes.values()) <= 2 * 5050  # less the digit facts that the hash would hold back
    assert all(0.08 < sizes[split] / 10100 < 0.12 for split in ("dev", "held_out"))
    assert key_of("add", 47, 38) == key_of("add", 38, 47) == "add:38:47"
    assert key_of("subtract", 52, 17) == "subtract:52:17"
    # Pinned: a model trained on one machine is scored on another.
    pinned = {
        "add:38:47": "train",
        "subtract:52:17": "train",
        "add:12:70": "train",
        "add:20:27": "dev",
        "add:20:21": "held_out",
    }
    assert {key: split_of(key) for key in pinned} == pinned


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_problem_comes_once_before_one_returns(family: str, split: Split) -> None:
    n = len(pool(family, split))
    problems = [problem(family, split, i, seed=3) for i in range(n)]
    assert len({p.key for p in problems}) == n
    assert problem(family, split, n, seed=3).key in {p.key for p in problems}
    assert len({p.template for p in problems}) >= 5
    for p in problems:
        assert last_integer(p.working) == int(p.answer)
        asked = sorted(int(x) for x in re.findall(r"\d+", p.question))
        assert asked == sorted(int(x) for x in p.key.split(":")[1:])


def test_no_dev_or_held_out_problem_stands_in_any_training_text() -> None:
    """Read back from the texts alone, whatever the generators believe."""
    kept = {p.key for f in FAMILIES for s in ("dev", "held_out") for p in [problem(f, s, i, 1) for i in range(len(pool(f, s)))]}
    seen: set[str] = set()
    texts = [d.text for g in FAMILIES for d in documents(g, _source(g, 1500), seed=7)]
    texts += [m.content for f in ("math", "word") for i in range(3000) for m in conversation(f, "train", i, 7).messages]
    for text in texts:
        for a, sign, b in re.findall(r"(\d+) ([+-]) (\d+) = \d", text):
            seen.add(key_of("add" if sign == "+" else "subtract", int(a), int(b)))
    assert len(seen) > 5000 and not seen & kept


def _source(generator: str, n: int) -> SyntheticSource:
    return SyntheticSource.model_validate({"kind": "synthetic", "generator": generator, "documents": n})


def test_check_disjoint_finds_a_planted_leak() -> None:
    sets: dict[str, list[Keyed]] = {
        s: [problem("arithmetic", s, i, 1) for i in range(50)] + [conversation("json", s, i, 1) for i in range(50)]
        for s in SPLITS
    }
    assert check_disjoint(sets) == dict.fromkeys(SPLITS, 100)
    with pytest.raises(Bug, match="is in the splits"):
        check_disjoint({**sets, "dev": [*sets["dev"], sets["train"][0]]})
    wrong = Problem("arithmetic", sets["train"][0].key, "dev", "", "", "", 0)
    with pytest.raises(Bug, match="belongs to 'train'"):
        check_disjoint({"dev": [wrong]})


def test_documents_are_a_function_of_the_seed() -> None:
    first, second = (list(documents("word_problems", _source("word_problems", 40), seed=7)) for _ in range(2))
    other = list(documents("word_problems", _source("word_problems", 40), seed=8))
    assert first == second and [d.text for d in first] != [d.text for d in other]
    assert len({d.id for d in first}) == 40
    assert all(3 <= d.text.count(", so ") <= 6 for d in first)
    with pytest.raises(UserError, match="no generator 'algebra'"):
        next(documents("algebra", _source("arithmetic", 1), seed=7))


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_the_verifier_accepts_exactly_the_answers_without_chatter(family: str) -> None:
    for split in SPLITS:
        chats = [conversation(family, split, i, seed=5) for i in range(400)]
        chatty = 0
        for chat in chats:
            assert chat.split == split == split_of(chat.key)
            answer = chat.messages[-1].content
            chatty += has_prefix(answer)
            assert verify(chat.verifier, chat.verifier_args, answer, finished=True) == float(not has_prefix(answer))
        assert 0.5 < chatty / 400 < 0.7
        assert len({c.key for c in chats}) == min(400, count(family, split))


def test_four_in_ten_answers_to_mathematics_show_the_working() -> None:
    shown = sum(" = " in conversation("math", "train", i, 5).messages[-1].content for i in range(1000))
    assert 340 < shown < 460


def test_choices_differ_and_the_right_one_is_anywhere() -> None:
    items = [multiple_choice("dev", i, 5) for i in range(800)]
    places = Counter(m.gold for m in items)
    assert all(150 < places[k] < 250 for k in range(4))
    for m in items:
        assert len(set(m.choices)) == 4 and m.choices[m.gold] == m.problem.answer
        assert all(int(c) >= 0 for c in m.choices)
        assert m.solutions[m.gold] == m.problem.working


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UserError, match="no chat family 'poetry'"):
        conversation("poetry", "train", 0, 1)
    with pytest.raises(UserError, match="no problem family 'algebra'"):
        problem("algebra", "train", 0, 1)
