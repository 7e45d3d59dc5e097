"""A pod of a stage on several nodes without Flyte: `python -m lehr.tasks.pod_ranks STAGE NODES RANKS`, RANKS in each pod.

It waits for the other pods, starts this one's ranks as `python -m lehr.tasks.pod_stage STAGE`, and ends with the code of the
rank whose end was no consequence of another's. torchrun ends with 1 for all of them, so that a mistake of the user's would be
tried again, and gives ranks that are told to end thirty seconds, whatever the pod's grace period is. torch is not loaded here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

from lehr.infra.pod.pod_template import EXIT_HANG, EXIT_RESTART, EXIT_SUSPECT
from lehr.runtime.errors import LehrError
from lehr.tasks.meeting import Place, environment, leave, meet
from lehr.tasks.owned import owned
from lehr.tasks.pod_stage import ended, submitted_run
from lehr.tasks.run_location import RunLocation

# A rank that ends badly breaks the connections of its peers here, which end by themselves, or are ended after this. Less than
# the supervisor waits (infra/pod/supervisor.py), which would take a peer's word for the cause.
SETTLE_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_WORDS = (EXIT_RESTART, EXIT_SUSPECT, EXIT_HANG)  # of ranks that gave their reason to the supervisor


@dataclass
class Ranks:
    """The processes of this pod's ranks. `codes` are those that they ended with, in order; `told`: to end, by that signal."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    told: int = 0

    def start(self, command: Sequence[str], place: Place, ranks: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        for local in range(ranks):
            surroundings = {**os.environ, **environment(place, ranks, local)}
            self.processes.append(subprocess.Popen(command, env=surroundings))
            if self.told:  # meanwhile
                self.processes[-1].send_signal(self.told)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.told = number
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(number)

    def wait(self) -> int:
        """The code for all of them, once they have ended. If one ends badly without being told to, the others must follow."""
        left, deadline = list(self.processes), 0.0
        while left:
            for process in [one for one in left if one.poll() is not None]:
                left.remove(process)
                code = process.returncode
                self.codes.append(code if code >= 0 else 128 - code)
            if any(self.codes) and not self.told:
                deadline = deadline or time.monotonic() + SETTLE_SECONDS
                if time.monotonic() > deadline:
                    self._end(left)
                    break
            time.sleep(_LOOK_SECONDS)
        return verdict(self.codes)

    @staticmethod
    def _end(left: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in left:
            process.kill()
        for process in left:
            process.wait()


def verdict(codes: Sequence[int]) -> int:
    """Of the codes in the order of their ends: the first bad one that is no word to the supervisor, else the first bad one."""
    bad = [code for code in codes if code]
    return next((code for code in bad if code not in _WORDS), bad[0] if bad else 0)


def main(arguments: list[str]) -> int:
    """The exit code of the pod."""
    stage, nodes, count = arguments[0], int(arguments[1]), int(arguments[2])
    try:
        objects = RunLocation(submitted_run().root).objects()
        place = owned()(meet)(objects, stage, nodes)
    except Exception as error:  # noqa: BLE001 - the outermost frame: said and counted, never lost
        return ended(error)
    ranks = Ranks()
    ranks.start([sys.executable, "-m", "lehr.tasks.pod_stage", stage], place, count)
    code = ranks.wait()
    if place.index == 0:
        try:
            leave(objects, stage)
        except LehrError as error:  # a few bytes stay
            print(f"the addresses of this attempt's pods stay in the store: {error}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
