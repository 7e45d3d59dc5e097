"""The examples that `--help` shows of a finished run, run as they are pasted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
from helpers import Finished

from tests.cli.test_examples import examples

pytestmark = pytest.mark.long
OF_A_RUN = ("lehr show", "lehr chat", "echo", "lehr dropped", "lehr lookup", "lehr export", "lehr validate", "lehr plan")


def test_examples_of_a_finished_run_work_as_pasted(finished: Finished, tmp_path: Path) -> None:
    """With this run's own stages and a document of its own in place of tiny-olmo2's."""
    asked = helpers.lehr("lookup", finished.out, "--step", "1", "--json")
    row = json.loads(asked.stdout)[0]
    soup = helpers.artifacts(finished.out, ["soup"])[0]
    others = {
        "runs/tiny-olmo2/artifacts/soup-1f0c": str(finished.out / "artifacts" / soup), "runs/tiny-olmo2": str(finished.out),
        "anneal-42": "anneal-1", "speeches:speeches/1798_john_adams_f": f"{row['source']}:{row['documents'][0]}",
        "--source plays": "--source bible", "--step 100": "--step 10",
    }  # fmt: skip
    shell = f'lehr() {{ PYTHONPATH={helpers.ROOT} "{sys.executable}" -m lehr.cli.main "$@"; }}; '
    ran = 0
    for example in examples():
        if example.startswith(OF_A_RUN):
            line = example
            for shown, own in others.items():
                line = line.replace(shown, own)
            done = subprocess.run(
                ["bash", "-c", shell + line], cwd=tmp_path, env=helpers.environment(), capture_output=True, text=True,
                timeout=300, input="Hello" if line.startswith("lehr chat") else "",
            )  # fmt: skip
            assert done.returncode == 0 and "error" not in done.stderr, (line, done.stderr)
            ran += 1
    assert ran >= 12
