"""The second init container: `python -m lehr.infra.pod.gate`. Lets a pod with a good verdict start, and holds one with a bad
one.

If the pod ended at once, its successor could land on the same node before that is cordoned. So the gate waits until the
controller has cordoned the node and deletes the pod, which the gate receives as SIGTERM: it then exits at once with code 143.
Not with 0: a pod whose containers all succeed but that left no outputs costs the user a retry, and nothing may ever start here.
If the pod is not deleted in time (LEHR_GATE_SECONDS, 120), the gate exits with 171. Flyte counts both as system retries. A
missing or unreadable verdict passes: the preflight always writes one, and a lost file is no evidence against the node.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import decode
from lehr.infra.fleet.signals import is_bad
from lehr.infra.fleet.views import Verdict
from lehr.runtime.environment import amount
from lehr.runtime.errors import UserError

SECONDS = 120.0
EXIT_REMOVED = 143  # 128 + SIGTERM


def read(path: Path) -> Verdict | None:
    """The verdict, or None with a line on stderr."""
    try:
        return decode(Verdict, path.read_bytes())
    except (OSError, ValueError) as error:
        print(f"gate: no verdict in {path}: {error}", file=sys.stderr, flush=True)
        return None


def hold(verdict: Verdict | None, seconds: float, removed: threading.Event) -> int:
    """Exit code: 0 if the pod may start, EXIT_REMOVED if it is being deleted, NAMES.exit_refused if it was not in time."""
    if verdict is None or not is_bad(verdict):
        print(f"gate: {verdict.outcome.value if verdict else 'no verdict'}: the pod may start", flush=True)
        return 0
    print(f"gate: {verdict.reason} ({verdict.detail}): held for up to {seconds:g} s until the node is cordoned", flush=True)
    if removed.wait(seconds):
        print("gate: the pod is being deleted", flush=True)
        return EXIT_REMOVED
    print("gate: the pod was not deleted in time", file=sys.stderr, flush=True)
    return NAMES.exit_refused


def main() -> int:
    removed = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: removed.set())
    try:
        seconds = amount("LEHR_GATE_SECONDS", SECONDS)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return hold(read(Path(os.environ.get("LEHR_VERDICT", "/lehr/verdict.json"))), seconds, removed)


if __name__ == "__main__":
    sys.exit(main())
