"""Mixes: shares, fixed amounts, repetitions, caps, temperature and phases, each against a count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from lehr.config.mix import Mix
from lehr.data.document import Document
from lehr.data.loader import Loader
from lehr.data.mix import counted, plan
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.runtime.errors import UserError

HELD = {"a": 16_001, "b": 1_601, "c": 161}  # tokens: 1,000, 100 and 10 windows of 16


def drawn(instances: int, **keys: Any) -> dict[str, int]:
    mix = Mix(**keys)
    found = counted(mix, {name: HELD[name] for name in mix.sources}, instances, 16)
    assert sum(f.instances for f in found.values()) == instances == sum(sum(f.phases) for f in found.values())
    return {name: f.instances for name, f in found.items()}


def test_each_table_by_hand() -> None:
    assert drawn(400, weights={"a": 3.0, "b": 1.0}) == {"a": 300, "b": 100}
    assert drawn(400, weights={"a": 1.0}, tokens={"b": 800}) == {"a": 350, "b": 50}
    assert drawn(400, weights={"a": 1.0}, epochs={"b": 0.5, "c": 4.0}) == {"a": 310, "b": 50, "c": 40}
    assert drawn(90, tokens={"b": 800}, epochs={"c": 4.0}) == {"b": 50, "c": 40}
    assert drawn(555, sized=["a", "b", "c"]) == {"a": 500, "b": 50, "c": 5}
    # 1000, 100, 10 to the power 1/2: 31.62, 10, 3.162
    assert drawn(4478, sized=["a", "b", "c"], temperature=2.0, max_epochs=40.0) == {"a": 3162, "b": 1000, "c": 316}


def test_what_one_source_cannot_give_the_others_share_and_the_tree_says_so() -> None:
    keys: dict[str, Any] = {"weights": {"a": 1.0, "b": 1.0, "c": 2.0}, "short": "share"}
    assert drawn(400, **keys, max_epochs=2.0) == {"a": 190, "b": 190, "c": 20}
    assert drawn(700, **keys, max_epochs=2.0) == {"a": 480, "b": 200, "c": 20}  # then b is full too
    assert drawn(400, **keys, max_epochs=20.0, caps={"b": 480}) == {"a": 170, "b": 30, "c": 200}
    with pytest.raises(UserError, match="all sources together may give 1,110 windows of the 1,200"):
        drawn(1200, **keys, max_epochs=1.0)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"weights": {"a": 1.0, "c": 1.0}}, r"'c' would be repeated 20.0 times, more than max_epochs=8"),
        ({"weights": {"a": 1.0}, "tokens": {"b": 16_000}}, "ask for 16,000 tokens, and the stage trains on 6,400"),
        ({"tokens": {"b": 800}}, "ask for 800 tokens, and the stage trains on 6,400"),
        ({"weights": {"a": 1.0}, "epochs": {"c": 9.0}}, r"'c' would be repeated 9.0 times"),
        ({"weights": {"a": 1.0, "b": 1.0}, "caps": {"b": 1600}}, "its share is 3,200 tokens, and its cap 1,600"),
        ({"curriculum": [{"share": 1.0, "weights": {"c": 1.0}}]}, r"'c' would be repeated 40.0 times"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_training(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        drawn(400, **keys)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "no source"),
        ({"weights": {"a": 1.0}, "epochs": {"a": 1.0}}, "'a' stands in two tables"),
        ({"weights": {"a": 1.0}, "sized": ["b"]}, "in two ways"),
        ({"weights": {"a": 1.0}, "temperature": 2.0}, "temperature: it is for sources in `sized`"),
        ({"weights": {"a": 1.0}, "caps": {"b": 1}}, "a cap is for a source"),
        ({"weights": {"a": 1.0}, "curriculum": [{"share": 1.0, "weights": {"a": 1.0}}]}, "a mix with a curriculum"),
    ],
)
def test_tables_that_contradict_each_other(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Mix(**keys)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    folder = tmp_path_factory.mktemp("shards")
    tokenizer = Tokenizer.train(iter(["one two three " * 20]), 300)
    for name, documents in (("a", 120), ("b", 40)):
        write_shards([Document(f"{name}{i}", name, f"{i} " * (9 + i % 7)) for i in range(documents)], name, tokenizer, folder)
    return {name: ShardSet.open(folder, name, tokenizer.hash) for name in ("a", "b")}


def test_phases_come_in_order_and_a_source_goes_on_where_it_stood(sets: dict[str, ShardSet]) -> None:
    windows = {name: (len(shard) - 1) // 16 for name, shard in sets.items()}
    total = 2 * windows["a"]
    phases = [{"share": 1.0, "weights": {"a": 1.0}}, {"share": 1.0, "weights": {"a": 0.75, "b": 0.25}}]
    loader = Loader(plan(Mix(curriculum=phases, max_epochs=9.0), sets, total, 16), seed=5)  # type: ignore[arg-type]
    half = total // 2
    order = [(part.shards.source, window) for part, window in loader.windows(np.arange(total))]
    assert {source for source, _ in order[:half]} == {"a"}
    later = [source for source, _ in order[half:]]
    assert abs(later.count("b") - half / 4) < 1
    read = [window for source, window in order if source == "a"]
    assert sorted(read[: windows["a"]]) == list(range(windows["a"]))  # the first epoch whole, before any window comes again
    assert len(set(read[windows["a"] :])) == len(read) - windows["a"]
    assert "phase 2" in loader.plan.tree() and "a 75.0%, b 25.0%" in loader.plan.tree()
    held = loader.documents(0, total)
    for part in loader.plan.parts:
        for name in [span.id for span in part.shards.documents][::7]:
            expected = [i for i, (source, _, ids) in enumerate(held) if source == part.shards.source and name in ids]
            assert loader.instances_of(part.shards.source, name) == expected
    batches = [loader.batch(step, 0, 1, 4).tokens_BT for step in range(total // 4)]
    first = part_of(loader, 0)
    assert (batches[0][0] == first).all()


def part_of(loader: Loader, instance: int) -> np.ndarray:
    [(part, window)] = loader.windows(np.array([instance]))
    return part.shards.tokens[window * 16 : window * 16 + 16]
