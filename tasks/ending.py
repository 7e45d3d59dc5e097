"""How a task's process in a pod ends when a retry can help: with an exit code that the fleet understands and a last word.

It writes no error for Flyte: a pod that ends without one costs a system retry, never one of the user's. The code says why:
170 start me again, 172 a device of this node failed, 173 training hangs. Outside a pod nothing of this happens.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from infra.pods import EXIT_RESTART
from lehr.launcher import launched

MAX_BYTES = 4096  # of a termination message


def in_pod() -> bool:
    """The pod template says where the last word goes."""
    return bool(os.environ.get("LEHR_TERMINATION_LOG"))


def leave(code: int, why: str, words: dict[str, Any]) -> NoReturn:
    """End this process at once. Nothing is cleaned up: whatever hangs must not hold the pod.

    Several ranks of a pod have one last word: that of a rank which only asks to be started again takes no other's place.
    """
    if launched():
        words = {**words, "rank": int(os.environ["RANK"])}
    print(f"ending with {code}: {why}", file=sys.stderr, flush=True)
    text = json.dumps({**words, "why": why[:1000]})
    place = Path(os.environ.get("LEHR_TERMINATION_LOG", "/dev/termination-log"))
    if launched() and code == EXIT_RESTART and place.is_file() and place.stat().st_size:
        os._exit(code)
    try:
        with place.open("w", encoding="utf-8") as file:
            file.write(text[:MAX_BYTES])
    except OSError as error:
        print(f"no termination message: {error}", file=sys.stderr, flush=True)
    os._exit(code)
