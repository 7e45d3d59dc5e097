"""Which saves stay on the disk while a stage trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lehr.config.training import Watch
from lehr.train.checkpointing.retention import Retention

sys.path.insert(0, str(Path(__file__).parent))
import pieces


def test_the_newest_and_the_regular_ones_stay() -> None:
    saves = [(3, True), (6, True), (7, False), (9, True), (12, True), (13, False)]
    assert Retention().old(saves) == {3, 6, 7}
    assert Retention(keep=3, every_steps=3).old(saves) == {7}
    assert Retention(every_steps=6).old(saves) == {3, 7}
    assert Retention().old([]) == set()


@pytest.mark.parametrize(
    ("watch", "kept"),
    [(Watch(), [20, 24]), (Watch(keep_saves=4), [12, 16, 20, 24]), (Watch(keep_saves_every_steps=12), [12, 20, 24])],
)
def test_a_recipe_says_how_many(tmp_path: Path, watch: Watch, kept: list[int]) -> None:
    with pytest.raises(pieces.Stop):
        pieces.stage(tmp_path, lambda state: pieces.StopAt(state.model, 27), every=4, watch=watch)
    assert sorted(int(p.stem.split("-")[1]) for p in tmp_path.glob("work/*/resume/state-*.safetensors")) == kept
