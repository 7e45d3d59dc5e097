"""The driver's loop: starts each stage's Job when what it needs is there, and ends the run at the first that cannot end well.

Level-triggered: it looks at the Jobs and pods that are there, so that a driver that was killed goes on where it stood.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lehr.infra.jobs.attempts import ENDED, AttemptLedger, Seen, pause_before
from lehr.infra.jobs.payer import End, Ledger, Payer
from lehr.infra.jobs.refused import refusal
from lehr.infra.jobs.submission import (
    DRIVER,
    STAGE,
    Submission,
    attempt_of,
    job_name,
    jobs_path,
    owner_uid,
    pods_path,
    selector,
)
from lehr.infra.kube.api import Api, ApiError
from lehr.infra.pod.pod_request import slug
from lehr.runtime.errors import InfraError, UserError

Object = dict[str, Any]
PAUSE_SECONDS, ASK_SECONDS = 1.0, 5.0
PATIENCE_SECONDS = 900.0  # an API server or a store that is away for longer ends the driver, which its Job starts again
REFUSED = (401, 403, 422)


@dataclass(frozen=True)
class Stage:
    """`needs` are names of stages before it; `job` makes its Job, once they are there: of that attempt, from 1. On one node
    there is one Job, and Kubernetes makes its pods; on several every attempt is one."""

    name: str
    needs: frozenset[str]
    job: Callable[[int], Object]
    nodes: int = 1


class RunJobs:
    """The Jobs of one submission, by stage, as the API server has them. Raises ApiError and InfraError."""

    def __init__(self, api: Api, submission: Submission) -> None:
        self._api, self._submission = api, submission
        self.owner = api.get(jobs_path(submission.namespace, job_name(submission.name, DRIVER)))

    def start(self, job: Object) -> None:
        """Create it; one of that name is ours, of an earlier life. Raises UserError for somebody else's."""
        namespace, name = self._submission.namespace, job["metadata"]["name"]
        try:
            self._api.create(jobs_path(namespace), job)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            if not self._ours(self._api.get(jobs_path(namespace, name))):
                remedy = f"find out whose it is; then: kubectl delete job -n {namespace} {name}, and submit again"
                raise UserError(f"there is a Job {name} that is not this run's", where=namespace, remedy=remedy) from error

    def look(self) -> dict[str, Seen]:
        """What there is of this submission, by the label of its stage: the newest attempt, with those before it."""
        chosen = {"labelSelector": selector(self._submission.name)}
        pods: dict[str, dict[str, Object]] = {}
        # Pods first: of one that is deleted with its Job, the Job then says so already.
        for pod in self._api.items(pods_path(self._submission.namespace), chosen):
            pods.setdefault(owner_uid(pod), {})[pod["metadata"]["uid"]] = pod
        jobs = [job for job in self._api.items(jobs_path(self._submission.namespace), chosen) if self._ours(job)]
        found: dict[str, Seen] = {}
        for job in sorted(jobs, key=attempt_of):
            before = found.get(self._stage(job))
            earlier = (*before.earlier, before) if before is not None else ()
            found[self._stage(job)] = Seen(job, pods.get(job["metadata"]["uid"], {}), earlier)
        return found

    def refused(self, job: Object) -> str:
        """Why Kubernetes makes no pod of it, "" if it says nothing."""
        return refusal(self._api, self._submission.namespace, job)

    def stop(self, seen: Iterable[Seen]) -> None:
        """Delete Jobs that still run: their pods are told to end, and save what they have."""
        for one in (each for newest in seen for each in (*newest.earlier, newest)):
            if one.job is not None and one.condition("Complete", "Failed") is None:
                meta = one.job["metadata"]
                try:
                    self._api.delete(jobs_path(self._submission.namespace, meta["name"]), meta["uid"])
                except ApiError as error:
                    if error.status not in (404, 409):
                        raise

    def _ours(self, job: Object) -> bool:
        return owner_uid(job) == str(self.owner["metadata"]["uid"])

    @staticmethod
    def _stage(job: Object) -> str:
        return str(job["metadata"]["labels"][STAGE])


@dataclass
class Drive:
    """`finished(name)` is told of every stage whose Job ended well, before any that needs it starts. `say` prints a line."""

    stages: Sequence[Stage]
    done: set[str]
    jobs: RunJobs
    finished: Callable[[str], None]
    say: Callable[[str], None]
    parallel: int
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    due: dict[tuple[str, int], float] = field(default_factory=dict)  # stage, attempt -> when it may start
    asks: dict[str, float] = field(default_factory=dict)  # stage -> when to ask why it lacks a pod; infinite once that is said

    def run(self, pause: float = PAUSE_SECONDS) -> None:
        """To the end of the last stage. Raises UserError for the first that may not be tried again, with the others stopped;
        InfraError if the API server or the store is away for too long."""
        last = time.monotonic()
        while any(stage.name not in self.done for stage in self.stages):
            try:
                self.once()
                last = time.monotonic()
            except (InfraError, OSError) as error:
                if isinstance(error, ApiError) and error.status in REFUSED:
                    raise UserError(f"the cluster refuses the driver ({error.message})", remedy=_GRANT) from error
                if time.monotonic() - last > PATIENCE_SECONDS:
                    raise
                self.say(f"the API server or the store does not answer, trying again: {error}")
            time.sleep(pause)

    def once(self) -> None:
        """One look at the cluster, and what follows from it."""
        seen = self.jobs.look()
        pending = [stage for stage in self.stages if stage.name not in self.done]
        for stage in pending:
            found = seen.get(slug(stage.name))
            if found is not None:
                self.started.add(stage.name)
                self._judge(stage, found, seen)
                self._explain(stage, found)
            elif stage.name in self.started:  # somebody deleted it
                self.started.discard(stage.name)
                self._book(stage, Seen(None, {}))
        running = [stage for stage in self.stages if stage.name in self.started and stage.name not in self.done]
        ready = [s for s in self.stages if s.name not in self.done and s.name not in self.started and s.needs <= self.done]
        for stage in ready[: max(0, self.parallel - len(running))]:
            self.jobs.start(stage.job(1))
            self.started.add(stage.name)
            self.say(f"{stage.name}: started")

    def _judge(self, stage: Stage, found: Seen, seen: dict[str, Seen]) -> None:
        if found.condition("Complete") is not None:
            self.finished(stage.name)
            self.done.add(stage.name)
            self.say(f"{stage.name}: finished{self._spent(stage)}")
            return
        self._book(stage, found)
        why = self.ledgers[stage.name].overdrawn()
        if found.failed is not None and not why:
            if stage.nodes > 1:
                self._again(stage, found)
                return
            why = str(found.failed.get("message") or found.failed.get("reason") or "its Job failed")
        if why:
            mistaken = self.ledgers[stage.name].spent(Payer.MISTAKE) > 0  # Kubernetes ends that Job itself, and keeps its log
            self.jobs.stop(other for other in seen.values() if other is not found or not mistaken)
            raise UserError(f"{stage.name}: {why}", remedy="mend it and submit again: what is finished is found again")

    def _explain(self, stage: Stage, found: Seen) -> None:
        """Say once what refuses the stage a pod, a quota for one: the run waits for that, at nobody's cost."""
        lives = sum(pod.get("status", {}).get("phase") not in ENDED for pod in found.pods.values())
        if found.job is None or lives >= stage.nodes or found.done is not None or found.failed is not None:
            self.asks.pop(stage.name, None)
            return
        now = time.monotonic()
        if now >= self.asks.setdefault(stage.name, now + ASK_SECONDS):
            why = self.jobs.refused(found.job)
            self.asks[stage.name] = math.inf if why else now + ASK_SECONDS
            if why:
                self.say(f"{stage.name}: waits for a pod, which costs nobody a retry: {why}")

    def _book(self, stage: Stage, found: Seen) -> None:
        ledger = self.ledgers.setdefault(stage.name, AttemptLedger() if stage.nodes > 1 else Ledger())
        if isinstance(ledger, AttemptLedger):
            new = ledger.see_attempts([*found.earlier, found] if found.job is not None else [])
        else:
            new = ledger.see(found.pods)
        replaced = {id(ledger.ends[uid]) for uid in ledger.replaced} if isinstance(ledger, AttemptLedger) else set()
        for end in new:
            self.say(f"{stage.name}: {self._said(end, id(end) in replaced)}")

    def _again(self, stage: Stage, failed: Seen) -> None:
        """Make the attempt after `failed`, once it has ended for good and not before its time."""
        if failed.job is None or failed.job["metadata"]["uid"] not in self.ledgers[stage.name].ends:
            return
        number, now = failed.attempt + 1, time.monotonic()
        if now >= self.due.setdefault((stage.name, number), now + pause_before(number)):
            self.jobs.start(stage.job(number))
            self.say(f"{stage.name}: attempt {number} started")

    @staticmethod
    def _said(end: End, replaced: bool) -> str:
        if replaced and end.payer is Payer.SYSTEM:
            return f"pod {end.pod} ended and is replaced: {end.why}"
        paid = {Payer.SYSTEM: "costs the system a retry", Payer.MISTAKE: "ends the run"}.get(
            end.payer, "costs one of three retries"
        )
        return f"pod {end.pod} ended, which {paid}: {end.why}"

    def _spent(self, stage: Stage) -> str:
        ledger = self.ledgers.get(stage.name, Ledger())
        user, system = ledger.spent(Payer.USER, Payer.MEMORY), ledger.system_retries()
        replaced = len(ledger.replaced) if isinstance(ledger, AttemptLedger) else 0
        more = f", {replaced} pods replaced" if replaced else ""
        return f" after {user} retries of the user's and {system} of the system's{more}" if user or system or replaced else ""


_GRANT = "install the chart with training.driver.create=true, or give lehr-driver the rights in docs/security.md"
