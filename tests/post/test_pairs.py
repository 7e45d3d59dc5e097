"""Preference prompts."""

from __future__ import annotations

from lehr.data.synthetic.conversations import in_turn


def test_held_out_prompts_are_distinct_and_training_prompts_are_as_many_as_asked() -> None:
    """`identity` has a handful of questions: held out, the others take its place."""
    families = ["repeat", "identity", "json"]
    held_out = [e.prompt[-1].content for e in in_turn(families, "held_out", 100, 1, distinct=True)]
    assert len(held_out) == 100 == len(set(held_out))
    train = [e.prompt[-1].content for e in in_turn(families, "train", 300, 1)]
    assert len(train) == 300 > len(set(train))
    few = [e.prompt[-1].content for e in in_turn(["identity"], "held_out", 100, 1, distinct=True)]
    assert 0 < len(few) == len(set(few)) < 100
