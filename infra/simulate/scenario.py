"""One simulated run: what is trained on, under which regime, and where its time went."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum

from lehr.infra.fleet.policy import Policy


class Regime(StrEnum):
    RESTART_ONLY = "restart-only"  # restarts on the same nodes; a person cordons after some crashes
    BEAKER = "beaker-like"  # preflight, cordon, another node; people repair and release
    FULL = "full"  # and conditions, the trainer's word, revalidation, lemons, breakers: all of `decide`


@dataclass(frozen=True)
class Scenario:
    """Times in seconds. A job that hangs is ended after `hang_seconds` (NCCL's default time-out), in the full regime after
    `watchdog_seconds` (the trainer's heartbeat, exit code 173)."""

    gpus: int
    regime: Regime
    days: float = 54.0
    spare_fraction: float = 0.02
    checkpoint_interval: float = 1800.0  # of training between two checkpoints
    checkpoint_seconds: float = 2.0  # for which each holds training up: state to host memory, and a barrier
    startup_seconds: float = 300.0  # from all pods running to the first new step
    preflight_seconds: float = 45.0
    hang_seconds: float = 600.0
    watchdog_seconds: float = 60.0
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


@dataclass
class Ledger:
    """Wall time of the job by what it went into, seconds. The sum is the simulated time."""

    productive: float = 0.0
    rework: float = 0.0  # done again after a failure
    checkpoint: float = 0.0
    hanging: float = 0.0  # failed, and nobody knew
    startup: float = 0.0
    preflight: float = 0.0
    waiting: float = 0.0  # for enough nodes
    # Counts, not seconds
    crashes: int = 0
    cordons: int = 0
    false_cordons: int = 0  # of nodes with no fault
    refused: int = 0  # by an open breaker
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


TIMES = ("productive", "rework", "checkpoint", "hanging", "startup", "preflight", "waiting")
COUNTS = tuple(f.name for f in fields(Ledger) if f.name not in TIMES)


def closed_form(rate: float, interval: float, checkpoint: float, restart: float) -> float:
    """Effective training time with memoryless failures (`rate`, 1/s) that cannot strike during a restart.

    An interval with its checkpoint is completed with chance q = exp(-rate (interval + checkpoint)), so q / (1 - q) of them
    are on average before a failure; a failure comes every 1 / rate of running and costs `restart`.
    """
    q = math.exp(-rate * (interval + checkpoint))
    return rate * interval * q / (1.0 - q) / (1.0 + rate * restart)
