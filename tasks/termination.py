"""How a task's process in a pod ends if a retry can help: with an exit code that the controller knows, and a message.

It writes no error file for Flyte, because a pod that ends without one costs a system retry, never one of the user's. The exit
codes: 170 restart, 172 a device of this node failed, 173 training hangs. Outside a pod none of this is used.
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
WAIT_SECONDS = 30.0  # for infra/pod/supervisor.py to end this process with the others, which takes it up to ten


def in_pod() -> bool:
    """Whether this process is a task's pod: only the pod template sets the path of the termination message."""
    return bool(os.environ.get("LEHR_TERMINATION_LOG"))


def set_progress_source(progress: Callable[[], dict[str, Any]]) -> None:
    """Set the function that returns the progress of this process's run."""
    global _progress
    _progress = progress


def termination_details() -> dict[str, Any]:
    """Rank and number of nodes, and the run's progress if it is known: a rank other than 0 knows only its place. The number of
    nodes is always needed: without it the controller would blame this node for a hang that all nodes share."""
    place = {"rank": int(os.environ.get("RANK", "0")), "nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1"))}
    return {**place, **_progress()}


def terminate(code: int, why: str, words: dict[str, Any], *, stopped: bool = False) -> NoReturn:
    """End this process without clean-up, which could hang in its turn. `stopped`: the process was told to end."""
    print(f"ending with {code}: {why}", file=sys.stderr, flush=True)
    mark = {"code": code, "ranks": int(os.environ.get("LOCAL_WORLD_SIZE", "1")), "stopped": stopped}
    if not _send(_text({**mark, **words}, why)):
        _write(_text(words, why))
    elif not stopped:  # if a rank dies first, the launcher ends the others and exits with 1: let the supervisor end it
        time.sleep(WAIT_SECONDS)
    os._exit(code)


def _text(words: dict[str, Any], why: str) -> bytes:
    """JSON that fits into a termination message; the reason is cut as short as necessary."""
    text, length = b"", 1000
    while not text or len(text) > MAX_MESSAGE_BYTES:
        text, length = json.dumps({**words, "why": why[:length]}).encode(), length // 2
    return text


def _send(message: bytes) -> bool:
    """Send the message to the pod's supervisor, which compares those of all ranks. False if there is no supervisor."""
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


def leave(message: str) -> None:
    """The line that whoever looks at this pod reads first; nowhere but in a pod."""
    if in_pod():
        _write(message.encode()[:MAX_MESSAGE_BYTES])


def _write(text: bytes) -> None:
    try:
        with open(os.environ.get("LEHR_TERMINATION_LOG", "/dev/termination-log"), "wb") as file:
            file.write(text)
    except OSError as error:
        print(f"no termination message: {error}", file=sys.stderr, flush=True)
