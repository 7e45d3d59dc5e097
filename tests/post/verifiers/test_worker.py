"""The process that answers with a library: what ends it, and what it outlives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from lehr.post import served
from lehr.post.verifiers.worker import Worker
from tests.graph.source import ROOT

MINE = Worker("jsonschema", ("jsonschema",), served.ready_for_schemas)


def is_right() -> bool:
    return MINE.ask(served.valid, [{"type": "integer"}, [5]], 5.0) is True


def test_it_outlives_the_thread_that_began_it_and_comes_back_after_its_death() -> None:
    thread = threading.Thread(target=is_right)
    thread.start()
    thread.join()
    first = MINE._guard
    assert first is not None and is_right() and MINE._guard is first
    first.kill()
    first.wait()
    assert is_right() and MINE._guard is not first
    MINE.stop()
    assert MINE._guard is None and is_right()
    MINE.stop()


def test_what_fails_is_no_answer() -> None:
    assert MINE.ask(served.valid, [{"$ref": "#/nowhere"}, [5]], 5.0) is None
    assert MINE.ask(served.valid, [{"type": "string", "pattern": "^(a+)+$"}, ["a" * 40 + "!"]], 0.2) is None
    assert is_right()
    MINE.stop()


ENDS = """
import os
from tests.post.verifiers.test_worker import MINE, is_right
assert is_right()
print(MINE._guard.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_ends_with_a_trainer_that_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == -9, done.stderr
    guard, until = Path("/proc", done.stdout.strip()), time.monotonic() + 30
    while guard.exists() and b"jail" in (guard / "cmdline").read_bytes() and time.monotonic() < until:
        time.sleep(0.05)
    assert not guard.exists() or b"jail" not in (guard / "cmdline").read_bytes(), os.listdir("/proc")
