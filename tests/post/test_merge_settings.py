"""A merge's settings, and the search of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.config.merging import MergeMethod
from lehr.post.merge import method_of
from lehr.post.merge_methods import dare, linear, slerp, ties
from lehr.post.merge_search import best, search
from tests.post.test_merging import SHAPES, merged, states


def peak(weights: tuple[float, ...]) -> float:
    return -sum((a - b) ** 2 for a, b in zip(weights, (0.7, 0.3, 0.0), strict=True))


def test_a_search_finds_the_top_within_its_points_and_the_same_each_time() -> None:
    trace = search(3, 60, peak)
    assert trace == search(3, 60, peak) and len(trace) <= 60
    assert [p.weights for p in trace[1:4]] == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert len({p.weights for p in trace}) == len(trace) and all(abs(sum(p.weights) - 1) < 1e-6 for p in trace)
    assert best(trace, lower=False).score > -0.005
    assert best(search(3, 60, lambda w: -peak(w), lower=True), lower=True).weights == best(trace, lower=False).weights
    assert [p.weights for p in search(2, 1, lambda w: 0.0)] == [(0.5, 0.5)]
    assert len(search(2, 500, lambda w: 0.0)) < 30  # ends where strides are too short to matter


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"method": "ties", "density": 0.0}, "greater than 0"),
        ({"method": "ties", "density": 1.5}, "less than or equal to 1"),
        ({"method": "dare_ties", "drop": 1.0}, "less than 1"),
        ({"method": "slerp", "at": -0.1}, "greater than or equal to 0"),
        ({"method": "linear", "density": 0.2}, "density: a setting of ties"),
        ({"method": "ties", "drop": 0.2}, "drop: a setting of dare_linear and dare_ties"),
        ({"method": "slerp", "weights": [1.0, 1.0]}, "slerp has none"),
        ({"weights": [1.0, -1.0]}, "they sum to 0"),
        ({"weights": [0.0, 0.0]}, "they sum to 0"),
        ({"weights": [float("nan"), 1.0]}, "not all are finite"),
        ({"method": "ties", "weights": [2.0, -1.0]}, "no negative ones"),
    ],
)
def test_settings_that_make_no_sense_are_refused(said: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MergeMethod.model_validate(said)


def test_a_configuration_leads_to_its_method(tmp_path: Path) -> None:
    """Defaults are the papers': a fifth kept, nine tenths dropped, half way."""
    some = states(2)
    w = [1.0, 1.0]
    for said, method in (
        ({"method": "linear"}, linear(w)),
        ({"method": "slerp"}, slerp(0.5)),
        ({"method": "ties"}, ties(w, 0.2)),
        ({"method": "dare_linear", "scale": 0.5}, dare(w, 0.9, [1, 2], False, scale=0.5)),
        ({"method": "dare_ties", "normalise": False}, dare(w, 0.9, [1, 2], True, normalise=False)),
    ):
        found = merged(tmp_path, some, method_of(MergeMethod.model_validate(said), w, [1, 2]))
        expected = merged(tmp_path, some, method)
        assert all(torch.equal(found[name], expected[name]) for name in SHAPES), said
