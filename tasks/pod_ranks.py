"""A pod of a stage on several nodes without Flyte: `python -m lehr.tasks.pod_ranks STAGE NODES RANKS`, RANKS in each pod.

It meets the other pods and starts this one's ranks as `python -m lehr.tasks.pod_stage STAGE`. Where ranks end because one of
them was lost or killed, here or elsewhere, or because the store failed, the pods that are left meet again, with new ones for
those that are gone, and all ranks start again in them; what /dev/shm holds is still there. For any other reason the pod ends,
with the code of the rank whose end was no consequence of another's. torchrun ends with 1 for all of them, so that a mistake of
the user's would be tried again, and gives ranks that are told to end thirty seconds, whatever the pod's grace period is. torch
is not loaded here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from lehr.infra.pod.pod_template import EXIT_HANG, EXIT_RESTART, EXIT_SUSPECT
from lehr.infra.pod.preflight_again import failed_check
from lehr.runtime.errors import LehrError
from lehr.tasks.meeting import Meeting, Over, Place, environment
from lehr.tasks.owned import owned
from lehr.tasks.pod_stage import ended, submitted_run
from lehr.tasks.rank_words import RankWords
from lehr.tasks.run_location import RunLocation
from lehr.tasks.termination import terminate, termination_details

# A rank that ends badly breaks the connections of its peers here, which end by themselves, or are ended after this. Less than
# the supervisor waits (infra/pod/supervisor.py), which would take a peer's word for the cause.
SETTLE_SECONDS = 5.0
MEETING_LOOK_SECONDS = 5.0  # between two looks at whether the others have begun another round
_LOOK_SECONDS = 0.05
_WORDS = (EXIT_RESTART, EXIT_SUSPECT, EXIT_HANG)  # of ranks that gave their reason to the supervisor
_KILLED = 128 + signal.SIGKILL
IN_PLACE = (EXIT_RESTART, _KILLED)  # ends of ranks for which they may start again in the same pod


@dataclass
class Ranks:
    """The processes of this pod's ranks. `codes` are those that they ended with, in order; `told`: to end, by that signal."""

    words: RankWords = field(default_factory=RankWords)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    told: int = 0

    def start(self, command: Sequence[str], place: Place, ranks: int) -> None:
        self.processes, self.codes = [], []
        self.words.begin()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        for local in range(ranks):
            surroundings = {**os.environ, **self.words.environment(), **environment(place, ranks, local)}
            self.processes.append(subprocess.Popen(command, env=surroundings))
            if self.told:  # meanwhile
                self.processes[-1].send_signal(self.told)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.told = number
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(number)

    def wait(self, moved: Callable[[], bool] = lambda: False) -> int:
        """The code for all of them, once they have ended. If one ends badly without being told to, or `moved` says that other
        pods have, the others must follow."""
        left, deadline, gone = list(self.processes), 0.0, False
        while left:
            for process in [one for one in left if one.poll() is not None]:
                left.remove(process)
                code = process.returncode
                self.codes.append(code if code >= 0 else 128 - code)
            self.words.hear(bool(self.told))
            gone = gone or moved()
            if (gone or any(self.codes) or self.words.held) and not self.told:
                deadline = deadline or time.monotonic() + SETTLE_SECONDS
                if time.monotonic() > deadline or self.words.waiting >= len(left) > 0:
                    self._end(left)
                    break
            time.sleep(_LOOK_SECONDS)
        said = [word.code for word in (*self.words.passed, *(word for word, _ in self.words.held))]
        return verdict([*self.codes, *said, *([EXIT_RESTART] if gone else [])])

    def may_restart(self, code: int) -> bool:
        """Whether ranks that ended with `code` may start again in this pod: not one that was told to end, or of whose node
        something was said to the supervisor."""
        held = any(word.code == code for word, _ in self.words.held)
        return not self.told and not self.words.passed and (code in IN_PLACE or (code == EXIT_HANG and held))

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


def looking(meeting: Meeting, words: RankWords) -> Callable[[], bool]:
    """Whether the other pods have gone on without this one; asked seldom, as it asks the store. Tells the meeting what rank 0
    has kept. A store that does not answer is no reason to end ranks that work."""
    last, kept = time.monotonic(), -1

    def moved() -> bool:
        nonlocal last, kept
        if time.monotonic() < last + MEETING_LOOK_SECONDS:
            return False
        last = time.monotonic()
        try:
            if (newest := words.kept()) > kept:
                meeting.progressed(newest)
                kept = newest
            return meeting.moved()
        except LehrError as error:
            print(f"the meeting of the pods cannot be read: {error}", file=sys.stderr, flush=True)
            return False

    return moved


def rounds(meeting: Meeting, ranks: Ranks, command: Sequence[str], count: int) -> int:
    """The ranks of this pod, again and again while that can help. The exit code of the pod."""
    while True:
        place = owned()(meeting.join)()
        ranks.start(command, place, count)
        code = ranks.wait(looking(meeting, ranks.words))
        if code == 0 and place.seat == 0:
            _leave(meeting)
        if not ranks.may_restart(code):
            return code
        print(f"ranks ended with {code} in round {place.round}: they start again in this pod", file=sys.stderr, flush=True)
        owned()(meeting.restart)(place.round)
        owned()(meeting.sit)()  # before the preflight, which takes its time: no spare takes the seat
        if why := failed_check():
            terminate(EXIT_SUSPECT, f"the preflight before a restart in place: {why}", termination_details())
        if ranks.told:  # in between
            return EXIT_RESTART


def _leave(meeting: Meeting) -> None:
    try:
        meeting.leave()
    except LehrError as error:  # a few bytes stay
        print(f"the addresses of this attempt's pods stay in the store: {error}", file=sys.stderr, flush=True)


def run(meet: Callable[[], Meeting], command: Sequence[str], count: int) -> int:
    """The exit code of a pod with `count` ranks, each of which is `command`."""
    ranks = Ranks()
    try:
        return rounds(meet(), ranks, command, count)
    except Over:
        return 0  # the stage is made
    except Exception as error:  # noqa: BLE001 - the outermost frame: said and counted, never lost
        return ended(error)
    finally:
        ranks.words.close()


def main(arguments: list[str]) -> int:
    """The exit code of the pod."""
    stage, nodes, count = arguments[0], int(arguments[1]), int(arguments[2])
    command = [sys.executable, "-m", "lehr.tasks.pod_stage", stage]
    return run(lambda: Meeting(RunLocation(submitted_run().root).objects(), stage, nodes), command, count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
