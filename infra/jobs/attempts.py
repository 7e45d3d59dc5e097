"""A stage on several nodes: one Indexed Job for each attempt, which fails with the first of its pods; then the driver makes the
next one, if whoever pays for this one's end may still pay.

| among the ends of an attempt's pods | who pays |
|---|---|
| exit 2, a mistake of the user's | the run ends at once |
| otherwise one taken away, deleted, killed (137), refused by the gate (171, 143), or with a failed device (172) | the system |
| otherwise one that was out of memory | the user |
| otherwise one that ended with any other code but 170 and 173 | the user |
| otherwise: peers were lost (170) or hung (173), and nobody says more | the system |

The pods that Kubernetes ends because their Job failed are not asked: they were told to end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lehr.infra.fleet.policy import NAMES
from lehr.infra.jobs.payer import End, Ledger, Payer, disruption, end_of
from lehr.infra.jobs.submission import attempt_of

Object = dict[str, Any]
ENDED = ("Failed", "Succeeded")
OVERDUE_SECONDS = 60.0  # after its grace period: the pod's node does not answer
CONSEQUENCES = (NAMES.exit_restart, NAMES.exit_hang)  # how ranks end that lost another one
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 360.0  # seconds, as Kubernetes' between the pods of one Job


@dataclass(frozen=True)
class Seen:
    """One Job of a stage and its pods, by uid, at one moment. `job` is None where there is none. `earlier` are the attempts
    before this one, the oldest first."""

    job: Object | None
    pods: dict[str, Object]
    earlier: tuple[Seen, ...] = ()

    def condition(self, *types: str) -> Object | None:
        """The Job's first condition of these types that holds."""
        found = (self.job or {}).get("status", {}).get("conditions") or []
        return next((c for c in found if c["type"] in types and c["status"] == "True"), None)

    @property
    def failed(self) -> Object | None:
        return self.condition("Failed", "FailureTarget")

    @property
    def attempt(self) -> int:
        return attempt_of(self.job) if self.job is not None else 1


@dataclass
class AttemptLedger(Ledger):
    """What the attempts of one stage on several nodes have cost. `taken`, by a Job's uid, is the pod that somebody took away
    while that Job was well: its peers end because of it."""

    taken: dict[str, End] = field(default_factory=dict)

    def see_attempts(self, attempts: Sequence[Seen], now: float | None = None) -> list[End]:
        """Take in all attempts that are there; returns the ends that are new. `now` is Unix time."""
        moment = time.time() if now is None else now
        there, well = {}, set()
        for seen in attempts:
            assert seen.job is not None
            uid = str(seen.job["metadata"]["uid"])
            there[uid] = (str(seen.job["metadata"]["name"]), self._end(uid, seen, moment))
            if seen.condition("Complete") is not None:
                well.add(uid)
        return self._take(there, well)

    def _end(self, uid: str, seen: Seen, now: float) -> End | None:
        pods = sorted(seen.pods.values(), key=_finished_at)
        ends = [(pod, end) for pod in pods if (end := end_of(pod)) is not None]
        if mistake := next((end for _, end in ends if end.payer is Payer.MISTAKE), None):
            return mistake
        failed = seen.failed
        if failed is None:
            if uid not in self.taken and (gone := next(filter(None, map(_taken, pods)), None)):
                self.taken[uid] = gone
            return None
        if any(_going(pod, now) for pod in pods):
            return None
        own = [end for pod, end in ends if not pod["metadata"].get("deletionTimestamp") or disruption(pod["status"])]
        own += [self.taken[uid]] if uid in self.taken else []
        said = str(failed.get("message") or failed.get("reason") or "its pods were ended")
        return min(own, key=_weight, default=End(str((seen.job or {})["metadata"]["name"]), Payer.SYSTEM, said))


def pause_before(attempt: int) -> float:
    """Seconds to wait before attempt `attempt`, from 1: none before the second, then longer each time."""
    return min(FIRST_PAUSE * 2 ** (attempt - 3), LONGEST_PAUSE) if attempt > 2 else 0.0


def _weight(end: End) -> int:
    """The least is the cause, the others its consequences."""
    if end.payer is Payer.SYSTEM:
        return 3 if end.code in CONSEQUENCES else 0
    return 1 if end.payer is Payer.MEMORY else 2


def _taken(pod: Object) -> End | None:
    name, why = str(pod["metadata"]["name"]), disruption(pod.get("status", {}))
    if not why and pod["metadata"].get("deletionTimestamp"):
        why = "deleted"
    return End(name, Payer.SYSTEM, why) if why else None


def _going(pod: Object, now: float) -> bool:
    """Whether the pod has yet to end. One whose node does not answer has, for us: nobody knows when it will."""
    if pod.get("status", {}).get("phase") in ENDED:
        return False
    deleted = pod["metadata"].get("deletionTimestamp")
    return not deleted or now < datetime.fromisoformat(str(deleted)).timestamp() + OVERDUE_SECONDS


def _finished_at(pod: Object) -> str:
    """When its containers had ended, as text that sorts; "" where nothing says so."""
    status = pod.get("status", {})
    states = [c.get("state", {}) for kind in ("initContainerStatuses", "containerStatuses") for c in status.get(kind) or []]
    return max((str(state.get("terminated", {}).get("finishedAt") or "") for state in states), default="")
