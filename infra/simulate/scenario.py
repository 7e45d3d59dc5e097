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
    """Times in seconds. A hanging job is ended after `hang_seconds` (NCCL's default time-out), and in the full regime after
    `watchdog_seconds` (the trainer's watchdog, exit code 173)."""

    gpus: int
    regime: Regime
    days: float = 54.0
    spare_fraction: float = 0.02
    checkpoint_interval: float = 1800.0  # of training between two checkpoints
    checkpoint_seconds: float = 2.0  # for which a checkpoint stops training: copying the state to host memory, and a barrier
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
    """The job's wall time by use, in seconds. The sum is the simulated time."""

    productive: float = 0.0
    rework: float = 0.0  # done again after a failure
    checkpoint: float = 0.0
    hanging: float = 0.0  # from a failure until a time-out detects it
    startup: float = 0.0
    preflight: float = 0.0
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


TIMES = ("productive", "rework", "checkpoint", "hanging", "startup", "preflight", "waiting")
COUNTS = tuple(f.name for f in fields(Ledger) if f.name not in TIMES)


def closed_form(rate: float, interval: float, checkpoint: float, restart: float) -> float:
    """Effective training time with memoryless failures (`rate`, 1/s) that cannot happen during a restart.

    An interval with its checkpoint is completed with probability q = exp(-rate (interval + checkpoint)), so on average
    q / (1 - q) of them are completed before a failure. A failure comes every 1 / rate of running time and costs `restart`.
    """
    q = math.exp(-rate * (interval + checkpoint))
    return rate * interval * q / (1.0 - q) / (1.0 + rate * restart)
