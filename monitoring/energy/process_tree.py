"""Which processes of this machine are this run's, and the processor time that they took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from lehr.monitoring.machine import PROC, descendants, processes, stats
from lehr.runtime.environment import whole
from lehr.runtime.rank_environment import launched

_FORGET_SECONDS = 60.0
_INITIAL_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in Linux's include/linux/proc_ns.h


def root() -> int:
    """The process of which all of this run's on this machine are descendants: a launcher's local ranks are its children, as
    torchrun's, Flyte's, Slurm's and Lehr's own are. Otherwise this process."""
    return os.getppid() if launched() and whole("LOCAL_WORLD_SIZE", 1) > 1 else os.getpid()


def of_this_run(proc: Path = PROC) -> frozenset[int]:
    """Process IDs."""
    top = root()
    return frozenset({top, os.getpid(), *descendants(proc, top)})


def sees_all_processes(proc: Path = PROC) -> bool:
    """Whether process IDs here are the machine's own, with which drivers count. In a container they are not."""
    try:
        return os.readlink(proc / "self" / "ns" / "pid") == _INITIAL_NAMESPACE
    except OSError:
        return False


class TreeCpuSeconds:
    """CPU seconds, user and system, of this run's processes on this machine, running or waited for.

    Running ones are read from /proc; without /proc only this process and those that it has waited for count. A machine has a
    thousand processes that are not this run's: each is looked at once, and again a minute later, as IDs are given anew.
    """

    def __init__(self, proc: Path = PROC, now: Callable[[], float] = time.monotonic) -> None:
        self._proc, self._now = proc, now
        self._foreign: frozenset[int] = frozenset()
        self._forgot = now()

    def __call__(self) -> float:
        own = os.times()
        seconds = own.user + own.system + own.children_user + own.children_system
        # utime, stime, cutime, cstime: each process with the children that it has waited for
        others = (sum(map(int, fields[11:15])) for fields in self._others().values())
        return seconds + sum(others) / os.sysconf("SC_CLK_TCK")

    def _others(self) -> dict[int, list[str]]:
        """This run's processes but this one, with their `stats`."""
        if self._now() - self._forgot > _FORGET_SECONDS:
            self._foreign, self._forgot = frozenset(), self._now()
        there, top = processes(self._proc), root()
        found = descendants(self._proc, top, there - self._foreign)
        self._foreign = there - found.keys()
        if top != os.getpid():
            found.update(stats(self._proc, [top]))
        found.pop(os.getpid(), None)
        return found
