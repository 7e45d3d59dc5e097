"""The decision log on disk: bounded, and readable after a crash and after a full disk."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.infra.controller.log_file import BLOCK, LogFile
from lehr.runtime.errors import LehrError


def test_it_begins_anew_when_it_is_full_and_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for life in range(3):  # a new controller goes on where the last one stopped
        with LogFile(path, 1000) as log:
            for number in range(20):
                log.write(f"{life} {number:02d} " + "x" * 50)
    now, before = path.read_text().splitlines(), (tmp_path / "log.1").read_text().splitlines()
    assert now[-1].startswith("2 19") and all(len(line) == 55 for line in now + before)
    every = [f"{life} {number:02d}" for life in range(3) for number in range(20)]
    assert [line[:4] for line in before + now] == every[-len(now + before) :]
    assert path.stat().st_size <= 1000 >= (tmp_path / "log.1").stat().st_size and len(list(tmp_path.iterdir())) == 2
    with LogFile(path, 10) as log:
        log.write("a line that is longer than all the room")
    assert path.read_text() == "a line that is longer than all the room\n"


@pytest.mark.parametrize("torn", ["", "half a li", "x" * (3 * BLOCK)])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"one\ntwo\n{torn}")
    with LogFile(path, 1 << 20) as log:
        log.write("three")
    assert path.read_text() == "one\ntwo\nthree\n"


FULL = """
import sys
from pathlib import Path
from lehr.infra.controller.log_file import LogFile
with LogFile(Path(sys.argv[1]), 1 << 20) as log:
    for line in ("first", "x" * 5000, "second"):
        try:
            log.write(line)
        except OSError as error:
            print(error.errno)
"""


def test_a_full_disk_costs_the_line_and_nothing_else(tmp_path: Path) -> None:
    """The room is a limit of the process: the kernel writes up to it, as it does on a full disk, and refuses the rest."""
    import signal

    def narrow() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    path = tmp_path / "log"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, preexec_fn=narrow, capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == 1 and path.read_text() == "first\nsecond\n", done


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LehrError, match="none/log"):
        LogFile(tmp_path / "none" / "log", 1000)
