"""One simulated run: how many GPUs, under which regime, with which times; and the ledger of where its wall time went."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum

from lehr.infra.fleet.policy import Policy


class Regime(StrEnum):
    RESTART_ONLY = "restart-only"  # restarts on the same nodes; a person cordons a node after some crashes
    BEAKER = "beaker-like"  # preflight, cordon, another node; people repair and release
    FULL = "full"  # all of `decide`: also conditions, the trainer's exit codes, revalidation, lemons and breakers


@dataclass(frozen=True)
class Scenario:
    """Times in seconds, all of them assumptions (`lehr simulate fleet --set NAME=NUMBER` puts in your own). A hanging job is
    ended after `hang_seconds` (NCCL's default time-out), and in the full regime after `watchdog_seconds` (the trainer's
    watchdog, exit code 173)."""

    gpus: int
    regime: Regime
    days: float = 54.0
    spare_fraction: float = 0.02
    checkpoint_interval: float = 1800.0  # of training between two checkpoints
    checkpoint_seconds: float = 2.0  # for which a checkpoint stops training: copying the state to host memory, and a barrier
    upload_seconds: float = 30.0  # from then on until it is complete in the store: a crash before that goes back one further
    crash_seconds: float = 10.0  # from the end of one rank to the end of all others
    pods_seconds: float = 60.0  # from there to all pods running again: the engine's retry, scheduling, volumes
    launch_seconds: float = 180.0  # processes, compilation, communicators
    load_seconds: float = 60.0  # the state from the store
    preflight_seconds: float = 45.0
    hang_seconds: float = 600.0
    watchdog_seconds: float = 60.0
    memory_copies: bool = False  # each rank's state also in the memory of two pods, which goes with them
    copy_interval: float = 120.0  # of training between two copies
    copy_seconds: float = 0.5  # for which a copy stops training; checkpoints are then written from it
    copy_made_seconds: float = 10.0  # from then on until it is made: a crash before that goes back one further
    copy_load_seconds: float = 15.0  # the state from memory, in place of `load_seconds`
    restart_in_place: bool = False  # ranks start again in the pods that are left; only those of lost nodes are new
    in_place_seconds: float = 60.0  # in place of `pods_seconds` and `launch_seconds`, where no pod is new
    meeting_seconds: float = 20.0  # for the pods to meet again: a spare takes a seat that is empty for 15 s
    vain_seconds: float = 300.0  # that pods wait for one that is never replaced, before all are made anew
    hot_spares: bool = False  # on idle nodes pods run already and are checked; they join a job that restarts in place
    policy: Policy = field(default_factory=Policy)

    @property
    def nodes(self) -> int:
        return max(1, self.gpus // 8)

    @property
    def spares(self) -> int:
        return max(1, math.ceil(self.nodes * self.spare_fraction))

    @property
    def hang(self) -> float:
        return self.watchdog_seconds if self.regime is Regime.FULL else self.hang_seconds

    @property
    def preflight(self) -> float:
        return 0.0 if self.regime is Regime.RESTART_ONLY else self.preflight_seconds

    @property
    def joins_hot(self) -> bool:
        """Whether a replacement runs already. A job that starts anew as a whole has new pods, whatever ran on the spare."""
        return self.hot_spares and self.restart_in_place

    @property
    def copies_last(self) -> bool:
        """Whether a restart finds memory copies: pods that are made anew have none."""
        return self.memory_copies and self.restart_in_place

    def load(self, in_place: bool) -> float:
        return self.copy_load_seconds if self.copies_last and in_place else self.load_seconds

    @property
    def restart(self) -> float:
        """From a crash on nodes that stay the same to the first new step, without preflight and hang."""
        anew, place = self.pods_seconds + self.launch_seconds, self.meeting_seconds + self.in_place_seconds
        return self.crash_seconds + (place if self.restart_in_place else anew) + self.load(self.restart_in_place)

    @property
    def saves(self) -> Saves:
        """What a restart goes back to, as long as no memory copy is lost."""
        if self.copies_last:
            return Saves(self.copy_interval, self.copy_seconds, self.copy_made_seconds)
        pauses = math.floor(self.checkpoint_interval / self.copy_interval) * self.copy_seconds if self.memory_copies else 0.0
        return Saves(self.checkpoint_interval, self.checkpoint_seconds + pauses, self.upload_seconds)


@dataclass(frozen=True)
class Saves:
    """A save after each `interval` seconds of training; it stops training for `pause` and can be read `delay` seconds later."""

    interval: float
    pause: float
    delay: float

    def kept(self, seconds: float) -> int:
        """How many of them a crash after `seconds` finds complete."""
        return max(0, math.floor((seconds - self.delay) / (self.interval + self.pause)))


@dataclass
class Ledger:
    """The job's wall time by use, in seconds. The sum is the simulated time."""

    productive: float = 0.0
    rework: float = 0.0  # done again after a failure
    checkpoint: float = 0.0  # training stands still for checkpoints and copies
    detection: float = 0.0  # from a failure until all ranks have ended, hangs included
    scheduling: float = 0.0  # until all pods run
    preflight: float = 0.0
    startup: float = 0.0
    load: float = 0.0
    waiting: float = 0.0  # for enough nodes
    # Counts, not seconds
    crashes: int = 0
    cordons: int = 0
    false_cordons: int = 0  # of nodes without a fault
    refused: int = 0  # cordons that an open breaker refused
    lemons_found: int = 0
    cordoned_node_hours: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(self.shares_seconds().values())

    @property
    def effective(self) -> float:
        """Effective training time ratio."""
        return self.productive / self.seconds

    def shares_seconds(self) -> dict[str, float]:
        return {name: float(value) for name, value in asdict(self).items() if name in TIMES}


LOSSES = ("rework", "checkpoint", "detection", "scheduling", "preflight", "startup", "load", "waiting")
TIMES = ("productive", *LOSSES)
COUNTS = tuple(f.name for f in fields(Ledger) if f.name not in TIMES)


def closed_form(rate: float, saves: Saves, restart: float) -> float:
    """Effective training time with memoryless failures (`rate`, 1/s) that cannot happen during a restart of `restart` seconds.

    A failure finds k saves with probability exp(-rate (k (interval + pause) + delay)) or more, so exp(-rate delay) q / (1 - q)
    on average, with q = exp(-rate (interval + pause)). A failure comes every 1 / rate of running time and costs `restart`.
    """
    q = math.exp(-rate * (saves.interval + saves.pause))
    return rate * saves.interval * math.exp(-rate * saves.delay) * q / (1.0 - q) / (1.0 + rate * restart)
