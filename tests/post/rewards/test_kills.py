"""Reward models in training, and best-of-N, killed: the same bits at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_killed_reward_models_and_best_answers_end_bit_identical(tmp_path: Path, repository: Path) -> None:
    """Kills before a step, with half a save or block written, before a save's record, and at a time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.post.rewards.killing", str(tmp_path)],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cases = {c["case"]: c for c in map(json.loads, done.stdout.splitlines())}
    assert cases.keys() == {"bradley-terry", "multi-aspect", "best-of-n"}
    assert [name for name, c in cases.items() if not c["same"]] == []
    assert cases["bradley-terry"]["kills"] >= 4 <= cases["multi-aspect"]["kills"] and cases["best-of-n"]["kills"] >= 3
    assert cases["bradley-terry"]["steps"] == [12, 12]
