"""GRPO with a value model beside the policy, and PPO, whose roll-outs span steps, killed at any moment: the same bits at the
end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.post import killing_conditioned
from tests.post.killing import KINDS

CASES = 8  # with sixteen kills, for each method


@pytest.mark.long
@pytest.mark.parametrize("method", ["grpo", "brain", "ppo", "ppo-lora"])
def test_killed_runs_end_bit_identical(method: str, tmp_path: Path, repository: Path) -> None:
    """Kills when a roll-out is drawn and not yet kept, between the two models' backward passes, with half a resume file
    written, before its record, and at any time; with bad steps of either model, and rollbacks."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.post.killing", method, str(tmp_path), "0", str(CASES)],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == CASES and [c["case"] for c in cases if not c["same"]] == []
    assert all(c["kills"] for c in cases)
    assert {kind for c in cases for kind in c["kinds"]} == set(KINDS)
    for what in ("skipped", "rollbacks", "spans"):
        assert sum(c[what] > 0 for c in cases) >= 2, what


@pytest.mark.long
def test_killed_steps_of_self_knowledge_end_bit_identical(tmp_path: Path, repository: Path) -> None:
    """From the parent's artifact on: each attempt adds the negative token anew, and finds its weights in the save."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.post.killing_conditioned", str(tmp_path), "0", "6"],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 6 and [c["case"] for c in cases if not c["same"]] == []
    assert all(c["kills"] for c in cases) and {kind for c in cases for kind in c["kinds"]} == set(killing_conditioned.KINDS)
