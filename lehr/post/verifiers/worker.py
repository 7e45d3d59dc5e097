"""A process beside the trainer that answers with a library's functions, each answer in a process of its own under the jail's
limits (lehr.runtime.jail.serve). Whatever an answer does to it costs that answer."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lehr
from lehr.post import served
from lehr.post.verifiers import sandbox
from lehr.runtime.errors import Bug

_MIB = 1 << 20
# Its first process holds the library; an answer's shares that memory.
_LIMITS = sandbox.Limits(wall_s=0, cpu_s=30, memory_bytes=2048 * _MIB, total_bytes=3072 * _MIB, open_files=256)
_START_S = 120.0  # importing a library on a busy machine
_MOST_ANSWER_BYTES = 1 << 17


class Worker:
    """Answers of functions that need `modules`; `ready` is called before the first. Begun at the first question, and
    again after it has died.

    `walled`: True if only a sandbox will do, as the library runs what it is given. Otherwise, where the kernel refuses
    one, limits and the filter of system calls alone hold it.
    """

    def __init__(self, name: str, modules: Sequence[str], ready: Callable[[], None], *, walled: bool = False) -> None:
        self.name, self.modules, self.ready, self.walled = name, tuple(modules), ready, walled
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, function: Callable[..., Any], arguments: list[Any], seconds: float) -> Any:
        """`function(*arguments)`, a function of lehr.post.served; None if it fails, takes over `seconds` or too much
        memory. Both ways of JSON. Raises UserError where it needs a sandbox and the machine refuses one."""
        with self._lock:
            guard = self._running()
            line = json.dumps([seconds, [function.__name__, arguments]]).encode() + b"\n"
            answer = _exchange(guard, line, seconds + _START_S)
            if answer is None:  # it was killed, for memory or from outside
                self.stop()
                return None
            return answer.get("value")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._guard is None or self._owner != os.getpid() or self._guard.poll() is not None:
            self._guard, self._owner = self._start(), os.getpid()
            atexit.register(self.stop)
        return self._guard

    def _start(self) -> subprocess.Popen[bytes]:
        if self.walled:
            sandbox.check_machine(self.name)
        why = sandbox.refusal()
        path = _path(self.modules)
        root = str(Path(lehr.__file__).absolute().parent.parent)
        asked = {
            "walls": not why,
            "readable": [*sandbox.readable(), *path, *([] if root in path else [str(Path(root, "lehr"))])],
            "limits": asdict(_LIMITS),
            "serve": f"{served.__name__}:answer",
            "path": [*path, root],
            "load": [self.ready.__name__],
        }
        guard = sandbox.start_guard(asked)
        if (_exchange(guard, b"", _START_S) or {}).get("value") != "ready":
            words = sandbox.final_report(guard)
            sandbox.end(guard)
            raise Bug(f"{self.name}'s process did not start: {words.get('refused', words)}")
        return guard

    def stop(self) -> None:
        """End it and all that it started. Does nothing where there is none, or in a forked copy of its process."""
        guard, self._guard = self._guard, None
        if guard is not None and self._owner == os.getpid():
            sandbox.end(guard)


def _path(modules: Sequence[str]) -> list[str]:
    """The folders in which the modules and the environment's packages lie."""
    found = [path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)]
    for module in modules:
        spec = find_spec(module)
        origin = spec.origin if spec else None
        if origin:  # a package's is its __init__.py
            place = os.path.dirname(origin)
            found.append(os.path.dirname(place) if origin.endswith("__init__.py") else place)
    return list(dict.fromkeys(found))


def _exchange(guard: subprocess.Popen[bytes], line: bytes, seconds: float) -> dict[str, Any] | None:
    """Send a line and read one; None if the process is gone or says nothing in time."""
    assert guard.stdin is not None and guard.stdout is not None
    try:
        guard.stdin.write(line)
        guard.stdin.flush()
    except BrokenPipeError:
        return None
    until, text = time.monotonic() + seconds, b""
    while not text.endswith(b"\n") and len(text) < _MOST_ANSWER_BYTES:
        if not select.select([guard.stdout], [], [], max(until - time.monotonic(), 0.0))[0]:
            return None
        part = os.read(guard.stdout.fileno(), 1 << 16)
        if not part:
            return None
        text += part
    answer = json.loads(text)
    return answer if isinstance(answer, dict) else None
