"""Which processes of this machine are this run's, and the processor time that they took."""

from __future__ import annotations

import os
from pathlib import Path

from lehr.monitoring.machine import PROC, descendants, stats
from lehr.runtime.environment import whole
from lehr.runtime.rank_environment import launched

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


def tree_cpu_seconds(proc: Path = PROC) -> float:
    """CPU seconds, user and system, of this run's processes on this machine, running or waited for.

    Running ones are read from /proc; without /proc only this process and those that it has waited for count.
    """
    own = os.times()
    seconds = own.user + own.system + own.children_user + own.children_system
    top, tick = root(), os.sysconf("SC_CLK_TCK")
    found = descendants(proc, top)
    found.pop(os.getpid(), None)  # counted above, to the tick
    if top != os.getpid():
        found.update((pid, fields) for pid, fields in stats(proc) if pid == top)
    # utime, stime, cutime, cstime: each process with the children that it has waited for
    return seconds + sum(sum(map(int, fields[11:15])) for fields in found.values()) / tick
