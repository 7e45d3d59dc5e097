"""A stage on several nodes: an Indexed Job for each attempt.

A pod that is lost, or whose node is at fault, is replaced by Kubernetes while the others go on in place. That costs nobody a
retry: pods give up by themselves when it brings nothing (lehr.tasks.meeting). With any other end of a pod the attempt fails;
then the driver makes the next one, if whoever pays for this one's end may still pay.

| among the ends of a failed attempt's pods | who pays |
|---|---|
| exit 2, a mistake of the user's | the run ends at once |
| otherwise one just taken away, deleted, killed (137), refused by the gate, or with a failed device (172) | the system |
| otherwise one that was out of memory; where it is replaced this counts as well | the user |
| otherwise one that ended with any other code but 170 and 173 | the user |
| otherwise: peers were lost (170) or hung (173), and nobody says more | the system |

The pods that Kubernetes ends because their Job failed are not asked: they were told to end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lehr.infra.fleet.policy import NAMES
from lehr.infra.jobs.payer import REPLACED, End, Ledger, Payer, disruption, end_of
from lehr.infra.jobs.submission import attempt_of

Object = dict[str, Any]
ENDED = ("Failed", "Succeeded")
RECENT_SECONDS = 300.0  # who was lost so long before an attempt failed is the cause of it, and no longer before
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
    def done(self) -> Object | None:
        """With spares, from when enough of its pods have ended well: Kubernetes ends the others."""
        return self.condition("Complete", "SuccessCriteriaMet")

    @property
    def attempt(self) -> int:
        return attempt_of(self.job) if self.job is not None else 1


@dataclass(frozen=True)
class Taken:
    """A pod that somebody took away while its Job was well, and when that was seen."""

    pod: str  # its uid
    end: End
    at: float


@dataclass
class AttemptLedger(Ledger):
    """What the attempts of one stage on several nodes have cost. `replaced` are the uids of pods that ended while their Job
    went on, `taken`, by a Job's uid, is the last one that somebody took away: if the Job fails then, it is because of that."""

    taken: dict[str, Taken] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    jobs: dict[str, str] = field(default_factory=dict)  # pod -> Job, by uid

    def see_attempts(self, attempts: Sequence[Seen], now: float | None = None) -> list[End]:
        """Take in all attempts that are there; returns the ends that are new. `now` is Unix time."""
        moment = time.time() if now is None else now
        there, well, over = dict[str, tuple[str, End | None]](), set[str](), set[str]()
        for seen in attempts:
            assert seen.job is not None
            uid = str(seen.job["metadata"]["uid"])
            there[uid] = (str(seen.job["metadata"]["name"]), self._end(uid, seen, moment))
            if seen.done is not None:
                well.add(uid)
            if seen.done is not None or seen.failed is not None:
                over.add(uid)
            self._take_in(uid, seen, there)
        for pod, job in self.jobs.items():  # how pods end with their Job is no end of their own
            if job in over or job not in there:
                there[pod] = (self.alive.get(pod, pod), None)
                well.add(pod)
        new = self._take(there, well)
        self.replaced = self.ends.keys() & self.jobs.keys()
        return new

    def _take_in(self, uid: str, seen: Seen, there: dict[str, tuple[str, End | None]]) -> None:
        """The pods of one Job: those that have ended, and are replaced."""
        for pod_uid, pod in seen.pods.items():
            self.jobs[pod_uid] = uid
            end = end_of(pod)
            there[pod_uid] = (str(pod["metadata"]["name"]), end if end is not None and is_replaced(pod, end) else None)

    def system_retries(self) -> int:
        """Attempts alone: pods that are replaced are bounded by themselves."""
        return sum(end.payer is Payer.SYSTEM for uid, end in self.ends.items() if uid not in self.replaced)

    def _end(self, uid: str, seen: Seen, now: float) -> End | None:
        pods = sorted(seen.pods.values(), key=_finished_at)
        ends = [(pod, end) for pod in pods if (end := end_of(pod)) is not None]
        if mistake := next((end for _, end in ends if end.payer is Payer.MISTAKE), None):
            return mistake
        failed = seen.failed
        if failed is None:
            if gone := next(filter(None, (_taken(pod, now) for pod in pods if not self._known(uid, pod))), None):
                self.taken[uid] = gone
            return None
        if any(_going(pod, now) for pod in pods):
            return None
        last = max((_seconds(pod, -math.inf) for pod, end in ends if not is_replaced(pod, end)), default=-math.inf)
        own = [
            Taken(str(pod["metadata"]["uid"]), end, now) for pod, end in ends
            if (not pod["metadata"].get("deletionTimestamp") or disruption(pod["status"]))
            and not (is_replaced(pod, end) and _seconds(pod, math.inf) < last - RECENT_SECONDS)
        ]  # fmt: skip
        own += [self.taken[uid]] if uid in self.taken and now - self.taken[uid].at < RECENT_SECONDS else []
        said = str(failed.get("message") or failed.get("reason") or "its pods were ended")
        cause = min(own, key=lambda one: _weight(one.end), default=None)
        if cause is None:
            return End(str((seen.job or {})["metadata"]["name"]), Payer.SYSTEM, said)
        self.ends.pop(cause.pod, None)  # what it has cost is the attempt now
        return cause.end

    def _known(self, uid: str, pod: Object) -> bool:
        """Whether this is the pod that was seen to be taken away."""
        return uid in self.taken and self.taken[uid].pod == str(pod["metadata"]["uid"])


def pause_before(attempt: int) -> float:
    """Seconds to wait before attempt `attempt`, from 1: none before the second, then longer each time."""
    return min(FIRST_PAUSE * 2 ** (attempt - 3), LONGEST_PAUSE) if attempt > 2 else 0.0


def _weight(end: End) -> int:
    """The least is the cause, the others its consequences."""
    if end.payer is Payer.SYSTEM:
        return 3 if end.code in CONSEQUENCES else 0
    return 1 if end.payer is Payer.MEMORY else 2


def _taken(pod: Object, now: float) -> Taken | None:
    name, why = str(pod["metadata"]["name"]), disruption(pod.get("status", {}))
    if not why and pod["metadata"].get("deletionTimestamp"):
        why = "deleted"
    return Taken(str(pod["metadata"]["uid"]), End(name, Payer.SYSTEM, why), now) if why else None


def is_replaced(pod: Object, end: End) -> bool:
    """Whether Kubernetes makes another pod in its place (lehr.infra.jobs.specs), by its end."""
    return end.payer is not Payer.MISTAKE and (bool(disruption(pod.get("status", {}))) or end.code in REPLACED)


def _seconds(pod: Object, unknown: float) -> float:
    """When its containers had ended, in Unix time."""
    text = _finished_at(pod)
    return datetime.fromisoformat(text).timestamp() if text else unknown


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
