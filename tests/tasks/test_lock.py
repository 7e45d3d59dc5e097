"""Two runs in one folder are kept apart, however they were started."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.runtime.errors import UserError
from lehr.tasks.lock import held, hold
from lehr.tasks.opening import open_run, resolved

ROOT = Path(__file__).resolve().parents[2]
_HOLD = """
import sys
from pathlib import Path
from lehr.tasks.lock import hold

hold(Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_a_folder_is_held_until_its_process_dies(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another lehr run is at work") as caught:
            hold(root)
        assert str(root) in str(caught.value)
        other.kill()  # no chance to tidy up
    with held(root):
        hold(root)  # the workflow's first task asks again in the same process
    with held(root):  # and it was given back
        pass


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """The folder is asked for before the recipe is written down."""
    (tmp_path / "recipe.yaml").write_text("the other run's")
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another lehr run is at work"):
            open_run(resolved(ROOT / "recipes/tiny/olmo2.yaml", []), str(tmp_path))
    assert (tmp_path / "recipe.yaml").read_text() == "the other run's"
