"""Splits by place: shares, caps, and pieces of one document together."""

from __future__ import annotations

import numpy as np

from lehr.data.preparation.splitting import DEV, GONE, HELD_OUT, TRAIN, Shares, split


def test_places_decide_and_the_dead_are_in_no_split() -> None:
    places = np.array([0.0, 0.029, 0.03, 0.049, 0.05, 0.999, 0.01])
    alive = np.array([True] * 6 + [False])
    found = split(places, alive, Shares(dev=0.02, held_out=0.03, most=100))
    assert found.tolist() == [HELD_OUT, HELD_OUT, DEV, DEV, TRAIN, TRAIN, GONE]


def test_of_too_many_the_lowest_places_are_held_back_and_no_family_is_torn() -> None:
    draw = np.random.default_rng(5)
    places = np.repeat(draw.random(3000), 4)[draw.permutation(12_000)]  # 3,000 documents in four pieces each
    found = split(places, np.ones(12_000, bool), Shares(dev=0.2, held_out=0.3, most=250))
    for name, low in ((HELD_OUT, 0.0), (DEV, 0.3)):
        mine = places[found == name]
        assert 246 < len(mine) <= 250 and len(np.unique(mine)) * 4 == len(mine)
        others = places[(found == TRAIN) & (places >= low)]
        assert mine.max() < others.min()
    again = split(places[::-1], np.ones(12_000, bool), Shares(dev=0.2, held_out=0.3, most=250))
    assert (again[::-1] == found).all()
