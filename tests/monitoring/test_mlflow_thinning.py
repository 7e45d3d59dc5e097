"""Which steps MLflow gets: few enough for its charts, with all that is rare."""

from __future__ import annotations

import math
from collections import Counter

from lehr.monitoring.mlflow_thinning import Thinning


def kept(thinning: Thinning, steps: int, total: int, most: int = 100) -> dict[str, list[int]]:
    """The steps by name of a run whose loss is at every step, its guard's limit from the ninth on, a norm at every tenth, and a
    checkpoint at every 997th; an update is refused at step 1,234, and the loss is NaN at 4,321."""
    found: dict[str, list[int]] = {}
    for step in range(1, steps + 1):
        metrics = {"loss": math.nan if step == 4321 else 1.0, "skipped": float(step == 1234)}
        metrics |= {"limit": 1.0} if step >= 9 else {}
        metrics |= {"norm": 1.0} if step % 10 == 0 else {}
        metrics |= {"checkpoint_bytes": 1.0} if step % 997 == 0 else {}
        for name in thinning.kept(step, total, metrics):
            found.setdefault(name, []).append(step)
    return found


def test_a_long_run_has_few_points_and_all_that_is_rare() -> None:
    found = kept(Thinning(10_000, 100), 10_000, 10_000)
    assert found["checkpoint_bytes"] == list(range(997, 10_000, 997))
    assert [step for step in found["loss"] if step % 100] == [1234, 4321]
    assert len(found["loss"]) == 102 and found["loss"][-1] == 10_000
    assert found["limit"][0] == 9 and len(found["limit"]) == 103  # its first value, and no flood of it
    assert len(found["norm"]) == 200 and max(Counter(found["norm"]).values()) == 1  # as many again between the strides


def test_a_short_run_has_every_step_and_one_of_unknown_length_ever_fewer() -> None:
    assert kept(Thinning(100, 100), 100, 100)["loss"] == list(range(1, 101))
    unknown = Thinning(0, 100)
    found = kept(unknown, 50_000, 0)
    assert unknown.stride == 512 and 450 < len(found["loss"]) < 600
