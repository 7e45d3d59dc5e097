"""A pod's first process over launchers and ranks that are real processes: what it ends with, and that nobody is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lehr.infra.pod.supervisor import MAX_BYTES, Ranks, Word, parsed

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python")
# A rank. Its plan: an exit code, which from 170 on goes with a termination message of the tasks' own; or to stop, or to hang.
RANK = """
import os, signal, sys, threading, time
from lehr.tasks.termination import terminate
rank, plan = int(os.environ.get("RANK", "0")), sys.argv[1].split(",")[int(os.environ.get("RANK", "0"))]
words = {"run": "tiny", "rank": rank, "step": 7}
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
open(f"here-{rank}", "w").close()
if plan == "stop":
    told.wait()
    time.sleep(1.5 if rank == 0 else 0.0)  # it saves
    open(f"saved-{rank}", "w").close()
    terminate(170, "stopped by SIGTERM", words, stopped=True)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
if plan == "hang":
    time.sleep(300)
if int(plan) >= 170:
    terminate(int(plan), "\\N{SNOWMAN}" * 5000, words)
sys.exit(int(plan))
"""


def start(folder: Path, plan: str, *launcher: str) -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "rank.py").write_text(RANK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEHR_TERMINATION_LOG": str(folder / "log"), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "lehr.infra.pod.supervisor", *launcher, sys.executable, "rank.py", plan]
    return subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_a_pod_ends_as_its_worst_rank_whatever_torchrun_makes_of_it(tmp_path: Path) -> None:
    plans = {"170,172": 172, "hang,173": 173, "3,170": 1, "stop,stop": 247}
    running = {plan: start(tmp_path / plan, plan, *TORCHRUN) for plan in plans}
    leaving = tmp_path / "stop,stop"
    for rank in (0, 1):
        wait_for(leaving / f"here-{rank}")
    running["stop,stop"].send_signal(signal.SIGTERM)
    said = {plan: process.communicate(timeout=240)[1] for plan, process in running.items()}
    assert {plan: process.returncode for plan, process in running.items()} == plans, said
    words = {plan: json.loads((tmp_path / plan / "log").read_text()) for plan in ("170,172", "hang,173", "stop,stop")}
    assert [words[plan]["rank"] for plan in ("170,172", "hang,173")] == [1, 1] and words["170,172"]["step"] == 7
    # A mistake in a rank stays the user's, though its peer's connection broke; and torchrun says so as ever.
    assert not (tmp_path / "3,170" / "log").exists() and "ChildFailedError" in said["3,170"]
    assert "ChildFailedError" not in said["170,172"], "a launcher that may judge writes an error that costs the user a retry"
    assert all((leaving / f"saved-{rank}").exists() for rank in (0, 1)), "who saves is not cut short by who has nothing to save"


def wait_for(path: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def test_a_command_without_ranks_ends_as_without_us(tmp_path: Path) -> None:
    """Its exit code, its termination message at once; nobody of it is left behind. An end by SIGTERM has a code of ours."""
    began = time.monotonic()
    running = {plan: start(tmp_path / plan, plan) for plan in ("0", "3", "172", "hang")}
    wait_for(tmp_path / "hang" / "here-0")
    running["hang"].send_signal(signal.SIGTERM)
    codes = {plan: process.wait(60) for plan, process in running.items()}
    assert codes == {"0": 0, "3": 3, "172": 172, "hang": 247}
    assert json.loads((tmp_path / "172" / "log").read_text())["run"] == "tiny" and time.monotonic() - began < 20
    orphan = "import subprocess; subprocess.Popen(['sleep', '99.25'], start_new_session=True)"
    done = subprocess.run(
        [sys.executable, "-m", "lehr.infra.pod.supervisor", sys.executable, "-c", orphan], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 0 and not sleepers()
    missing = subprocess.run(
        [sys.executable, "-m", "lehr.infra.pod.supervisor", "no-such"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 127 and missing.stderr == "error: no-such: No such file or directory\n"


def sleepers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"99.25" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended
    return found


def word(code: int, *, ranks: int = 8, stopped: bool = False) -> Word:
    return Word(code, ranks, stopped, {})


def test_who_is_believed_and_when_it_is_enough() -> None:
    ranks = Ranks()
    ranks.say(word(170), 10.0)
    assert ranks.wait(11.0) == 9.0 and ranks.exit_code(1) == 1, "the launcher saw a rank die without a word"
    ranks.say(word(173), 11.0)
    assert ranks.worst == word(170), "it hangs because it waits for the one that failed"
    ranks.say(word(172), 11.5)
    assert ranks.worst == word(172) and ranks.exit_code(1) == 172 and ranks.wait(12.0) == 1.0 and ranks.wait(13.5) == 0.0
    assert ranks.exit_code(0) == 0, "what ended well has ended well"
    few = Ranks()
    few.say(word(173, ranks=2), 10.0)
    few.say(word(173, ranks=2), 10.1)
    assert few.wait(10.1) == 0.0, "everybody has spoken"
    stopping = Ranks()
    stopping.say(word(170, stopped=True), 10.0)
    assert stopping.worst is None and stopping.wait(99.0) is None, "told to stop by the launcher: another's failure"
    stopping.leaving = True
    assert stopping.wait(99.0) is None and stopping.exit_code(1) == 170, "told by the kubelet: the others may still be saving"
    last = Ranks(leaving=True)
    last.say(word(170, ranks=1), 10.0)
    assert last.wait(10.0) == 0.0, "nobody is left to wait for: a rank that lost its peers on other nodes"


def test_only_words_are_heard() -> None:
    for data in (b"", b"\0", b"[]", b"{}", b'{"code":"x"}', b'{"code":0}', b'{"code":9e999}', b"[" * MAX_BYTES):
        assert parsed(data) is None
    assert parsed(b'{"code":172,"ranks":4,"step":3}') == Word(172, 4, False, {"step": 3})
