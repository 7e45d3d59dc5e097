"""The machine's oddities: no home, streams that nobody reads, temporary folders that others made or that killed runs left."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.cache import folder_of
from lehr.cli.main import main
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.runtime.errors import UserError
from tests.staging import made

ROOT = Path(__file__).resolve().parents[2]


def test_a_home_that_cannot_be_had_names_what_to_set_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEHR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()

    def nobody(_: int) -> Any:
        raise KeyError("uid not found")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="Set LEHR_CACHE to a folder") as caught:
        patch.setattr(pwd, "getpwuid", nobody)
        folder_of("s3://b/r")
    assert caught.value.where == "~/.cache/lehr"
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set LEHR_CACHE to a folder"):
        folder_of("s3://b/r")
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    assert folder_of("s3://b/r").is_relative_to(tmp_path / "cache")


def test_a_reader_of_stderr_that_is_gone_changes_no_exit_code() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "lehr.cli.main", "validate", "no-such.yaml"]
    ended = subprocess.run(command, cwd=ROOT, stderr=write, stdout=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert ended.returncode == 2


_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("environment", "shown", "name"),
    [
        (_ASCII, b"80.0 ? 2.3", "\u0436\u2014".encode()),  # click takes ASCII for a locale that nobody set, and writes UTF-8
        ({"PYTHONIOENCODING": "latin-1"}, "80.0 ± 2.3".encode("latin-1"), b"??"),
    ],
)
def test_a_command_ends_well_whatever_letters_its_output_takes(
    environment: dict[str, str], shown: bytes, name: bytes, run: Path
) -> None:
    path = run / "artifacts/documents-1/dropped.jsonl.gz"
    path.write_bytes(gzip.compress('{"id": "\u0436\u2014", "source": "plays", "reason": "short"}\n'.encode()))
    for words, says in ((["show", run], shown), (["dropped", run], b"plays\tshort\t" + name)):
        command = [sys.executable, "-m", "lehr.cli.main", *map(str, words)]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)
        assert ended.returncode == 0 and says in ended.stdout, ended.stderr
    missing = [sys.executable, "-m", "lehr.cli.main", "show", "\u0436"]
    ended = subprocess.run(missing, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)
    assert ended.returncode == 2 and ended.stderr.count(b"\n") == 1 and b"there is no such folder" in ended.stderr


def test_what_is_piped_in_is_utf8_and_no_byte_of_it_ends_the_command(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for raw in (b"\xff\xfe caf\xc3\xa9", b"caf\xc3\xa9"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
        assert main(["chat", str(trained), "--max-new-tokens", "3"]) == 0
        assert capsys.readouterr().out.strip()


_OPENS = """
import os, sys, tempfile
from lehr.cli.local import _own_temporary_folder
with _own_temporary_folder():
    print(tempfile.gettempdir())
    from multiprocessing.util import get_temp_dir
    get_temp_dir()  # where ranks meet; the interpreter removes it late
    if sys.argv[1] == "killed":
        os._exit(9)
"""


def _opens(temporary: Path, how: str) -> Path:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", _OPENS, how]
    return Path(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout.strip())


def test_no_temporary_folder_stays(tmp_path: Path) -> None:
    """Not after a run; after one that was killed until this user's next one, of whatever recipe. Others' are left alone."""
    ended = _opens(tmp_path, "well")
    assert ended.parent == tmp_path and not ended.exists()
    killed = _opens(tmp_path, "killed")
    assert killed.is_dir()
    with tempfile.TemporaryDirectory(dir=tmp_path, prefix=f"lehr-run-{os.getuid()}-") as alive:
        number = os.open(alive, os.O_RDONLY)
        fcntl.flock(number, fcntl.LOCK_EX)  # a run that is at work
        (tmp_path / f"lehr-run-{os.getuid()}-link").symlink_to(tmp_path)
        _opens(tmp_path, "well")
        assert not killed.exists() and Path(alive).is_dir()
        os.close(number)


def test_the_folders_of_an_older_lehr_which_hold_no_lock_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"lehr-{os.getuid()}-0977cfeffa91").mkdir()
    _opens(tmp_path, "well")
    assert [path.name for path in tmp_path.iterdir()] == [f"lehr-{os.getuid()}-0977cfeffa91"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"attempt": "x"}', "\udcff"])
def test_a_damaged_record_of_attempts_is_named_and_a_ledger_begun_again(damage: str, tmp_path: Path) -> None:
    store, content = LocalStore(tmp_path), damage.encode(errors="surrogateescape")
    costs: list[float] = []

    def work(attempt: Attempt) -> Outcome:
        costs.append(attempt.spent().seconds)
        attempt.saved()
        raise UserError("not yet")

    with pytest.raises(UserError, match="not yet"):
        made(store, work)
    (ledger,) = tmp_path.glob("work/*/energy/1-0.json")
    ledger.write_bytes(content)
    with pytest.raises(UserError, match="not yet"):
        made(store, work)
    assert costs[-1] < 60
    (record,) = tmp_path.glob("attempts/*.json")
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged record of attempts\. Delete it and run the same command again") as caught:
        made(store, work)
    assert caught.value.where == str(record)
    record.unlink()
    with pytest.raises(UserError, match="not yet"):
        made(store, work)
