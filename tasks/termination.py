"""How a task's process in a pod ends when a retry can help: with an exit code that the fleet understands, and a message.

It writes no error for Flyte: a pod that ends without one costs a system retry, never one of the user's. The code says why:
170 start me again, 172 a device of this node failed, 173 training hangs. Outside a pod nothing of this happens.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from lehr.infra.pod.pod_template import MAX_MESSAGE_BYTES, MESSAGE_SOCKET

_progress: Callable[[], dict[str, Any]] = dict
WAIT_SECONDS = 30.0  # for infra/pod/supervisor.py to end this process with the others; it takes up to ten


def in_pod() -> bool:
    """The pod template says where the termination message goes."""
    return bool(os.environ.get("LEHR_TERMINATION_LOG"))


def set_progress_source(progress: Callable[[], dict[str, Any]]) -> None:
    """Who knows how far this process's run is."""
    global _progress
    _progress = progress


def termination_details() -> dict[str, Any]:
    """Rank and nodes, and what is known of the run's progress. A rank that follows another knows no more than its place: the
    controller must hear of the other nodes, or a hang that all share would accuse this one."""
    place = {"rank": int(os.environ.get("RANK", "0")), "nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1"))}
    return {**place, **_progress()}


def terminate(code: int, why: str, words: dict[str, Any], *, stopped: bool = False) -> NoReturn:
    """End this process. Nothing is cleaned up: whatever hangs must not hold the pod. `stopped`: it was told to end."""
    print(f"ending with {code}: {why}", file=sys.stderr, flush=True)
    mark = {"code": code, "ranks": int(os.environ.get("LOCAL_WORLD_SIZE", "1")), "stopped": stopped}
    if not _send(_text({**mark, **words}, why)):
        _write(_text(words, why))
    elif not stopped:  # a launcher that sees a rank die begins to judge; what was told to stop ends as ever
        time.sleep(WAIT_SECONDS)
    os._exit(code)


def _text(words: dict[str, Any], why: str) -> bytes:
    """JSON that fits a termination message; the reason is cut as far as that takes."""
    text, length = b"", 1000
    while not text or len(text) > MAX_MESSAGE_BYTES:
        text, length = json.dumps({**words, "why": why[:length]}).encode(), length // 2
    return text


def _send(message: bytes) -> bool:
    """Tell the pod's first process, which knows what the other ranks say. False if there is none."""
    place = os.environ.get(MESSAGE_SOCKET)
    if not place:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.settimeout(1.0)
            door.sendto(message, place)
    except OSError as error:
        print(f"the termination message was not sent: {error}", file=sys.stderr, flush=True)
        return False
    return True


def _write(text: bytes) -> None:
    try:
        with open(os.environ.get("LEHR_TERMINATION_LOG", "/dev/termination-log"), "wb") as file:
            file.write(text)
    except OSError as error:
        print(f"no termination message: {error}", file=sys.stderr, flush=True)
