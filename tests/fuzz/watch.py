"""Runs a command in this process and holds it to what any input must come to: 0 or 2, a line for each mistake, bounded time and
memory, and nothing written outside of its output and the cache."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch  # first of all: its libraries take gigabytes of addresses, which are no command's

from lehr.cli.main import main
from lehr.runtime.errors import UserError

torch.set_num_threads(1)
SECONDS, BYTES = 20.0, 2 << 30  # of processor time and of memory beyond what there is; a command takes tenths and megabytes
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {  # the system's calls that change a file system, and which of their arguments are paths
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip
_allowed: tuple[str, ...] = ()  # while a command is watched
_strays: list[str] = []


class TooLong(BaseException):
    """A command took more than SECONDS of processor time. What waits for ever the test's own limit ends."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed or (event != "open" and event not in _CHANGES):
        return
    if event == "open":
        path, mode, flags = arguments
        writes = any(c in "wax+" for c in mode) if isinstance(mode, str) else bool((flags or 0) & _WRITES)
        paths = (path,) if writes else ()
    else:
        paths = tuple(arguments[i] for i in _CHANGES[event])
        if event in ("os.remove", "os.rmdir") and arguments[-1] not in (-1, None):
            return  # relative to an open folder, which was entered by its path before
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            full = os.path.realpath(os.fsdecode(path))
            if not full.startswith(_allowed) and "__pycache__" not in full and full != os.devnull:
                _strays.append(f"{event} {full}")


sys.addaudithook(_audit)


@dataclass(frozen=True)
class RunLocation:
    """Folders of one example. A command may write into `out`, `cache` and, for as long as it works, `temporary`."""

    root: Path

    @property
    def given(self) -> Path:
        return self.root / "given"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        return self.root / "temporary"


@contextmanager
def place() -> Iterator[RunLocation]:
    """Empty folders. Those of the last example that failed, or that ended this process, stay for whoever looks into it."""
    here = RunLocation(Path(os.environ.get("FUZZ_FOLDER") or tempfile.gettempdir()) / f"lehr-fuzz-{os.getpid()}")
    shutil.rmtree(here.root, ignore_errors=True)
    for folder in (here.given, here.out, here.cache, here.temporary):
        folder.mkdir(parents=True)
    yield here
    shutil.rmtree(here.root)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@contextmanager
def bounded(here: RunLocation) -> Iterator[None]:
    """Inside, time and memory are limited, temporary files go into `here.temporary` and the file system is watched.
    Raises AssertionError for a stray write."""
    global _allowed
    _strays.clear()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _allowed = tuple(os.path.realpath(folder) for folder in (here.out, here.cache, here.temporary))
    try:
        with patch("tempfile.tempdir", str(here.temporary)):  # a library's own, as when py3langid unpacks its model
            yield
    finally:
        _allowed = ()
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
    assert not _strays, _strays


def _too_long(number: int, frame: Any) -> None:
    raise TooLong(f"more than {SECONDS:g} s")


def run(here: RunLocation, *arguments: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Ended:
    """The command's end. Raises AssertionError, with the traceback where there is one, for an end that no input may have."""
    out, err = io.StringIO(), io.StringIO()
    inside = {"LEHR_CACHE": str(here.cache), "TMPDIR": str(here.temporary), "COLUMNS": "120", **(environment or {})}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, inside))
        stack.enter_context(patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(bounded(here))
        code = main([str(argument) for argument in arguments])
    ended = Ended(code, out.getvalue(), err.getvalue())
    _judge(ended, here, [str(argument) for argument in arguments])
    return ended


def _judge(ended: Ended, here: RunLocation, arguments: list[str]) -> None:
    kept = "".join(path.read_text(encoding="utf-8")[-3000:] for path in here.temporary.glob("*.traceback"))
    about = f"lehr {' '.join(arguments)} (its files: {here.root})\nexit code {ended.code}: {ended.err[-2000:]}\n{kept}"
    assert ended.code in (0, 2), about
    assert "Traceback" not in ended.out + ended.err, about
    lines = ended.err.splitlines()
    if ended.code == 2:
        assert lines and all(line.startswith("error: ") and len(line) < 4000 for line in lines), about
    assert not any(ord(c) < 32 and c not in "\n\t" for c in ended.out + ended.err), about
    left = [path.name for path in here.temporary.iterdir() if not path.name.startswith("torchinductor_")]  # torch's own cache
    assert not left, f"left in the temporary folder: {left}, by {about}"


def refused_or_done(work: Callable[[], Any]) -> Any:
    """What `work` returns, or the UserError that it raises."""
    try:
        return work()
    except UserError as error:
        return error
