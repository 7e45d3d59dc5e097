"""A function that answers inside the jail, each request in a process of its own.

A request is a line of JSON on standard input, `[seconds, arguments]`; the answer a line on standard output, `{"value": ...}`,
`{"failed": text}` or `{"time": true}`.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

_MOST_ANSWER_BYTES = 1 << 16


def serve(function: str, load: list[str], path: list[str], lock_up: Callable[[], None]) -> None:
    """Import `module:function` from `path`, call the functions `load` of that module, say that it is ready, and answer
    until standard input ends. `lock_up` is called in each request's process before the function is."""
    sys.path += path
    module, _, name = function.partition(":")
    work: Callable[..., Any] = getattr(importlib.import_module(module), name)
    for name in load:
        getattr(importlib.import_module(module), name)()
    _say({"value": "ready"})
    with os.fdopen(os.dup(0), "rb") as requests:
        for line in requests:
            seconds, arguments = json.loads(line)
            _say(_answer(work, arguments, seconds, lock_up))


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _answer(work: Callable[..., Any], arguments: list[Any], seconds: float, lock_up: Callable[[], None]) -> dict[str, Any]:
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        for place, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            os.dup2(os.open("/dev/null", flags), place)
        _work(work, arguments, writes, lock_up)
    os.close(writes)
    text, ended = _collect(reads, time.monotonic() + seconds)
    os.close(reads)
    os.kill(child, signal.SIGKILL)
    _clear()
    if not ended:
        return {"time": True}
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"failed": "it ended without an answer"}


def _work(work: Callable[..., Any], arguments: list[Any], writes: int, lock_up: Callable[[], None]) -> None:
    """In the request's process; never returns."""
    try:
        lock_up()
        answer = json.dumps({"value": work(*arguments)})
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the end of this answer alone
        answer = json.dumps({"failed": f"{type(error).__name__}: {error}"[:500]})
    try:
        os.write(writes, answer.encode()[:_MOST_ANSWER_BYTES])
    finally:
        os._exit(0)


def _collect(reads: int, until: float) -> tuple[bytes, bool]:
    text = b""
    while len(text) <= _MOST_ANSWER_BYTES:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reads], [], [], left)[0]:
            return text, False
        part = os.read(reads, 1 << 14)
        if not part:
            break
        text += part
    return text, True


def _clear() -> None:
    """Kill and reap everything else inside: this is its first process."""
    if os.getpid() == 1:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return
