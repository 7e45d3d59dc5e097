"""Memory does not grow with the corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.dedup.scale import measure


def _measured(documents: int, repository: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.data.dedup.scale", str(documents)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, encoding="utf-8", check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_planted_copies_among_two_thousand_documents(tmp_path: Path) -> None:
    found = measure(2000, tmp_path)
    assert found["wrong"] == 0 and found["found"] >= 0.99


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_peak_memory_is_bounded_whatever_the_number_of_documents(repository: Path) -> None:
    """LEHR_SCALE_DOCUMENTS=1000000 takes two minutes, 10000000 a quarter of an hour: 188 MiB, and 160 at 100,000. The rows of
    a million are 504 MB of files: who held them would be found out."""
    more = int(os.environ.get("LEHR_SCALE_DOCUMENTS", "300000"))
    small, large = _measured(100_000, repository), _measured(more, repository)
    assert large["wrong"] == 0 and large["found"] >= 0.99
    assert large["peak_mib"] <= 1.2 * small["peak_mib"]
