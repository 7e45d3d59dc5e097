"""Spike scores by hand, norms by the model's own modules, and what a stage leaves of them in its record."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from lehr.runtime.ports import NullTracker
from lehr.train.stability import norms, spike_score
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces


def _wave(n: int) -> list[float]:
    """Mean 0, standard deviation 1."""
    return [1.0 if i % 2 else -1.0 for i in range(n)]


def test_spike_score_by_hand() -> None:
    assert spike_score([*_wave(2000), 6.9]) == 0.0
    for value in (7.1, -7.1, math.nan, math.inf, None):
        assert spike_score([*_wave(1999), value]) == pytest.approx(100 / 2000)
    assert spike_score([*_wave(100), 7.1]) == pytest.approx(100 / 101)  # before 1,000 values there are fewer
    assert spike_score([1.0] * 500) == spike_score([]) == 0.0


def test_only_the_last_thousand_values_count() -> None:
    """A noisy beginning widens the deviation while it is in the window, and no longer."""
    noisy = [50.0 * x for x in _wave(500)]
    late = [*noisy, *_wave(1000), 20.0, *_wave(500)]
    assert spike_score(late) == pytest.approx(100 / len(late))
    early = [*noisy, *_wave(900), 20.0, *_wave(500)]
    assert spike_score(early) == 0.0


def test_it_equals_the_definition_on_a_long_series() -> None:
    rng = np.random.default_rng(0)
    series = rng.standard_t(3, 5400).tolist()  # heavy tails: a few spikes
    spikes = 0
    for i in range(32, len(series)):
        before = np.array(series[max(0, i - 1000) : i])
        spikes += abs(series[i] - before.mean()) >= 7 * before.std()
    assert spikes > 2
    assert spike_score(series) == pytest.approx(100 * spikes / len(series))


@pytest.mark.parametrize("limit", [1e9, 0.01])
def test_norms_are_those_before_clipping(limit: float) -> None:
    from lehr.distributed.ranks import Ranks
    from lehr.model.transformer import Transformer
    from lehr.optim.adamw import clip_

    model = Transformer(pieces.MODEL).initialise(1)
    state = TrainState.fresh(model, pieces.OPTIM)
    pieces.Copying(model).backward(0, Ranks())
    expected = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0.0)
    for name, p in model.named_parameters():
        place = {"embed.weight": "embedding", "head.weight": "head"}.get(name, "attention" if "attention" in name else "mlp")
        expected["norms" if "norm" in name else place] += float(p.grad.double().square().sum())  # type: ignore[union-attr]
    found = norms(state, clip_(state.optimizer.flat.grads, limit))
    for kind, square in expected.items():
        if f"grad_norm_{kind}" in found:
            assert found[f"grad_norm_{kind}"] == pytest.approx(math.sqrt(square), rel=1e-4)
        else:
            assert square == 0.0
    assert found["embedding_norm"] == pytest.approx(float(model.embed.weight.detach().norm(dim=1).mean()), rel=1e-5)
    assert norms(state, math.nan) == {}


class Curves(NullTracker):
    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def progress(self, stage: str, step: int, total_steps: int, metrics: dict[str, float]) -> None:  # type: ignore[override]
        self.points.append((step, dict(metrics)))


def test_a_stage_leaves_its_scores_and_norms(tmp_path: Path) -> None:
    tracker = Curves()
    artifact = pieces.stage(tmp_path, lambda state: pieces.Copying(state.model, poison=40), steps=60, every=30, tracker=tracker)
    record = json.loads(artifact.path("logs/stability.json").read_text())
    rows = pieces.curves(artifact)
    assert record["steps"] == 60 and record["skipped_steps"] == sum("skipped" in row for row in rows) >= 1
    assert record["spike_score_grad_norm_percent"] == pytest.approx(100 / 60)  # the NaN of step 40
    assert record["left_out"] == []
    assert tracker.points[-1] == (60, {k: v for k, v in record.items() if k.startswith("spike_score")})
    assert [row["step"] for row in rows if "embedding_norm" in row] == [20, 40, 60]
    parts = [v for k, v in rows[19].items() if k.startswith("grad_norm_")]
    assert math.sqrt(sum(v * v for v in parts)) == pytest.approx(rows[19]["grad_norm"], rel=1e-6)
