"""One finished run, shared by the tests of this folder; what it served while it ran is kept too."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import helpers

from tests.train.listeners import family, listeners


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> helpers.Finished:
    out = tmp_path_factory.mktemp("e2e") / "run"
    log = out.parent / "stdout"
    with log.open("w") as stdout:
        process = subprocess.Popen(
            helpers.command("run", helpers.RECIPE, "--out", out), cwd=helpers.ROOT, env=helpers.environment(), stdout=stdout,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    url = metrics = ""
    listening = set[str]()
    while process.poll() is None:
        time.sleep(0.3)
        listening |= set(listeners(family(process.pid)))  # all the time: ranks come and go with their stages
        found = re.search(r"http://[0-9.]+:\d+/metrics", log.read_text())
        if found and not url:
            url = found.group()
        metrics = _fetch(url, metrics)
    assert process.stderr is not None
    assert process.returncode == 0, process.stderr.read()[-3000:]
    return helpers.Finished(out, log.read_text(), metrics, url, listening)


def _fetch(url: str, before: str) -> str:
    """The newest answer that shows a loss."""
    if not url:
        return before
    try:
        answer: str = urllib.request.urlopen(url, timeout=2).read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return before
    return answer if "lehr_train_loss{" in answer or not before else before
