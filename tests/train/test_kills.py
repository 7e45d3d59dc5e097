"""Killed at any moment, as often as you like: the same bits at the end. Twenty seeded cases; LEHR_KILLS=50 asks for more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.train.killing import KINDS

CASES = int(os.environ.get("LEHR_KILLS", "20"))


@pytest.mark.long
def test_killed_runs_end_bit_identical(tmp_path: Path, repository: Path) -> None:
    """Kills before a step, between micro-batches, with half a resume file written, before its record, and at any time; with
    the guard refusing updates, rollbacks, accumulation and a growing batch."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.killing", str(tmp_path), "0", str(CASES)],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == CASES and [c["case"] for c in cases if not c["same"]] == []
    assert all(c["kills"] for c in cases)
    untimed = [c for c in cases if "time" not in c["kinds"]]  # a timed kill may strike before or after
    assert [c["case"] for c in untimed if c["told"] != c["kills"]] == []
    assert set(Counter(kind for c in cases for kind in c["kinds"])) == set(KINDS)
    for what in ("skipped", "rollbacks", "accumulates"):
        assert sum(c[what] > 0 for c in cases) >= CASES // 10, what
