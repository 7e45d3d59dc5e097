"""Where a run may be when its stages are pods of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.runtime.errors import UserError
from lehr.tasks.opening import FLYTE_EXECUTION, open_run, resolved
from lehr.tasks.run_location import RunLocation

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"


@pytest.mark.parametrize("out", ["", "runs/mine", "/tmp/mine"])
def test_a_folder_of_one_pod_is_refused_before_anything_is_made(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a real engine: two tasks passed, and the third found no artifact."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "log"))
    monkeypatch.setenv(FLYTE_EXECUTION, "a1b2c3")
    before = RunLocation("/tmp/mine").folder.exists()
    with pytest.raises(UserError, match=r"is a folder of this pod alone. Give out an object store's address"):
        open_run(resolved(RECIPE, []), out)
    assert not list(tmp_path.iterdir()) and RunLocation("/tmp/mine").folder.exists() == before
