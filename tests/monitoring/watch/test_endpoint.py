"""Where a run's metrics are served: true while it lives, and believed of nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.monitoring.watch import endpoint

URL = "http://127.0.0.1:9405/metrics"


def test_a_process_says_where_it_serves_and_takes_it_back(tmp_path: Path) -> None:
    assert endpoint.find(tmp_path) is None
    endpoint.announce(tmp_path, URL)
    found = endpoint.find(tmp_path)
    assert found is not None and (found.url, found.pid) == (URL, os.getpid())
    endpoint.withdraw(tmp_path)
    assert list(tmp_path.iterdir()) == []
    endpoint.withdraw(tmp_path)


def _written(folder: Path, **changes: object) -> None:
    endpoint.announce(folder, URL)
    file = folder / endpoint.FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("changes", [{"started": 1}, {"boot": "another machine"}, {"pid": 2**22 + 7}, {"started": 0}])
def test_what_a_killed_process_or_another_machine_left_says_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    _written(tmp_path, **changes)
    assert endpoint.read(tmp_path) is not None and endpoint.find(tmp_path) is None


def test_another_process_s_file_is_left_to_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lehr.monitoring.watch import endpoint; "
        f"endpoint.announce(Path(sys.argv[1]), {URL!r}); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE)
    try:
        for _ in range(600):
            if endpoint.find(tmp_path) is not None:
                break
            assert other.poll() is None
            try:
                other.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        endpoint.withdraw(tmp_path)
        found = endpoint.find(tmp_path)
        assert found is not None and found.pid == other.pid
    finally:
        other.kill()
        assert other.stdin is not None
        other.stdin.close()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert endpoint.find(tmp_path) is None  # a zombie serves nothing
    other.wait()
    assert endpoint.find(tmp_path) is None and endpoint.read(tmp_path) is not None


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://127.0.0.1:9405@evil.example/metrics", "file:///etc/passwd",
     "http://127.0.0.1:9405/metrics?x", "http://127.0.0.1.evil.example:1/metrics", 7, None],
)  # fmt: skip
def test_a_file_sends_nobody_to_another_machine(tmp_path: Path, url: object) -> None:
    _written(tmp_path, url=url)
    assert endpoint.find(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"url": 1}', '{"pid": true}', "x" * 100])
def test_damaged_files_say_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / endpoint.FILE).write_text(content)
    assert endpoint.find(tmp_path) is None
    endpoint.withdraw(tmp_path)


def test_a_folder_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    endpoint.announce(tmp_path / "file" / "below", URL)
