"""`lehr profile`: tables, whole in a file, and nothing of the profiler's own."""

from __future__ import annotations

import pytest

from tests.cli.conftest import E2E, lehr


@pytest.mark.long
def test_tables_are_whole_and_the_profiler_is_silent() -> None:
    done = lehr("profile", str(E2E), "--steps", "1", COLUMNS="20")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "USDT" not in done.stdout and "…" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["phase", "ms", "a", "step", "share"] and lines[-1].endswith("GFLOP/s on this rank")
    assert {line.split()[0] for line in lines if line} >= {"forward", "backward", "clip", "update", "operator"}
