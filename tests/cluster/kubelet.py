"""Stand-ins for what a test cluster lacks: kubelets that walk pods through their containers, and Flyte's retries.

One watch of all pods feeds both. A node does what its `Behaviour` says: its preflight passes, fails, hangs or writes
something that is no verdict; its gate holds a bad one, as infra/pod/gate.py does. Every state goes through the status
subresource of the real API server. The engine makes the next attempt of an execution when a pod is gone or failed.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lehr.infra.controller.objects import ROLE
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import decode, encode
from lehr.infra.fleet.signals import is_bad
from lehr.infra.fleet.views import Outcome, Verdict
from lehr.infra.kube.api import Api, ApiError, Object, Watch
from lehr.runtime.errors import InfraError
from tests.cluster.network import Network
from tests.cluster.statuses import IMAGE_ID, ended, running, stamp, waiting

EXECUTION = "execution-id"
FOUND, GOOD, GOODNESS = 404, "pass", Verdict(Outcome.PASS, "1")


def bad_verdict(check: str = "matmul", reason: str = "MatmulMismatch") -> Verdict:
    return Verdict(Outcome.HARDWARE_FAILURE, "1", check, reason, "bit 3 of row 7", confirmed=True, finished_at=time.time())


@dataclass
class Behaviour:
    """Of one node. `message` makes the preflight's termination message; None: it never ends."""

    message: Callable[[], str | None] = lambda: encode(GOODNESS)
    test: Callable[[], str | None] = lambda: encode(GOODNESS)  # of revalidation Jobs
    hold_seconds: float = 120.0
    grace_seconds: float = 0.0  # between a deletion and the pod's end
    image_id: str = IMAGE_ID


def pods_path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


@dataclass
class Attempt:
    """One pod of an execution, as the engine saw it."""

    execution: str
    number: int
    uid: str
    node: str = ""
    at: float = 0.0
    ended: str = ""  # deleted or failed


@dataclass
class Cluster:
    """The stand-ins, as threads of the test. `attempts` is the history that the assertions read."""

    api: Api
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)  # uid -> attempt
    make_pod: Callable[[str, str, int], Object] | None = None  # namespace, execution, attempt -> pod
    restart_seconds: float = 0.05
    deleted_at: dict[str, float] = field(default_factory=dict)  # uid -> when its deletion was seen
    errors: list[str] = field(default_factory=list)
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._seen: dict[str, str] = {}  # uid -> stage that the kubelet has brought it to
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lock = threading.Condition()
        self._watch: Watch | None = None
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._follow, self._run_timers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._watch is not None:
            self._watch.close()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(5)

    # -- time and events

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), call))
            self._lock.notify_all()

    def _run_timers(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                wait = self._timers[0][0] - time.monotonic() if self._timers else 1.0
                if wait > 0:
                    self._lock.wait(min(wait, 1.0))
                    continue
                _, _, call = heapq.heappop(self._timers)
            self._safely(call)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ApiError as error:
            if error.status not in (404, 409):  # the pod went meanwhile
                self.errors.append(str(error))
        except InfraError as error:
            if not self._stop.is_set():
                self.errors.append(str(error))

    def _follow(self) -> None:
        path = "/api/v1/pods"
        while not self._stop.is_set():
            try:
                listing = self.api.get(path)
                for pod in listing["items"] or []:
                    self._changed("ADDED", pod)
                self._watch = self.api.watch(path, listing["metadata"]["resourceVersion"], {}, 3600)
                for kind, pod in self._watch:
                    if kind != "BOOKMARK":
                        self._safely(lambda kind=kind, pod=pod: self._changed(kind, pod))  # type: ignore[misc]
            except InfraError as error:
                if not self._stop.is_set():
                    self.errors.append(f"watch: {error}")
                    time.sleep(0.1)

    def _changed(self, kind: str, pod: Object) -> None:
        meta, node = pod["metadata"], pod["spec"].get("nodeName", "")
        uid = meta["uid"]
        if meta.get("labels", {}).get(EXECUTION):
            self._note_attempt(pod, kind)
        if kind == "DELETED" or not node:
            return
        if meta.get("deletionTimestamp"):
            if self._seen.get(uid) != "ending":
                self._seen[uid] = "ending"
                self.deleted_at.setdefault(uid, time.time())
                grace = self.behaviours.get(node, Behaviour()).grace_seconds
                self._later(grace, lambda: self._end(pod)) if grace else self._end(pod)
        elif uid not in self._seen:
            self._seen[uid] = "started"
            self._begin(pod, self.behaviours.get(node, Behaviour()))

    # -- the kubelet

    def _begin(self, pod: Object, behaviour: Behaviour) -> None:
        names = [c["name"] for c in pod["spec"].get("initContainers") or []]
        if NAMES.preflight_container in names:
            message = behaviour.message()
            if message is None:
                self._status(pod, "Pending", [running(NAMES.preflight_container), waiting(NAMES.gate_container)], [])
                return
            self._preflight_ended(pod, behaviour, message)
        elif pod["metadata"].get("annotations", {}).get(ROLE):
            self.network.begin(self._status, pod)
        elif pod["metadata"].get("labels", {}).get(f"{NAMES.prefix}/suite"):
            message = behaviour.test()
            if message is not None:
                self._status(pod, "Succeeded", [], [ended(NAMES.preflight_container, message)])
        else:
            self._status(pod, "Running", [], [running(c["name"]) for c in pod["spec"]["containers"]])

    def finish_preflight(self, pod: Object, message: str) -> None:
        """End a preflight that hung."""
        self._preflight_ended(pod, self.behaviours.get(pod["spec"]["nodeName"], Behaviour()), message)

    def _preflight_ended(self, pod: Object, behaviour: Behaviour, message: str) -> None:
        done = {**ended(NAMES.preflight_container, message), "imageID": behaviour.image_id}
        if _is_bad(message):
            self._status(pod, "Pending", [done, running(NAMES.gate_container)], [])
            self._later(behaviour.hold_seconds, lambda: self._refused(pod, done))
        else:
            mains = [running(c["name"]) for c in pod["spec"]["containers"]]
            self._status(pod, "Running", [done, ended(NAMES.gate_container, "")], mains)

    def _refused(self, pod: Object, preflight: Object) -> None:
        if self._seen.get(pod["metadata"]["uid"]) != "ending":
            gate = ended(NAMES.gate_container, "", NAMES.exit_refused)
            self._status(pod, "Failed", [preflight, gate], [])

    def exit_main(self, pod: Object, code: int, message: str = "") -> None:
        """The main container of a running pod ends, with a termination message."""
        inits = pod["status"].get("initContainerStatuses") or []
        mains = [ended(c["name"], message, code) for c in pod["spec"]["containers"]]
        self._status(pod, "Failed" if code else "Succeeded", inits, mains)

    def _status(self, pod: Object, phase: str, inits: list[Object], mains: list[Object], ip: str = "") -> None:
        meta = pod["metadata"]
        status: dict[str, Any] = {
            "phase": phase,
            "startTime": stamp(),
            "initContainerStatuses": inits,
            "containerStatuses": mains,
        }
        if ip:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        self.api.merge(
            f"{pods_path(meta['namespace'], meta['name'])}/status", {"metadata": {"uid": meta["uid"]}, "status": status}
        )

    def _end(self, pod: Object) -> None:
        meta = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        self.api._json(_delete(pods_path(meta["namespace"], meta["name"]), body))

    # -- the engine

    def _note_attempt(self, pod: Object, kind: str) -> None:
        meta, node = pod["metadata"], pod["spec"].get("nodeName", "")
        labels, uid = meta["labels"], meta["uid"]
        known = self.attempts.setdefault(uid, Attempt(labels[EXECUTION], int(labels["attempt"]), uid))
        if node and not known.node:
            known.node, known.at = node, time.time()
        ended = "deleted" if kind == "DELETED" else "failed" if pod.get("status", {}).get("phase") == "Failed" else ""
        if ended and not known.ended:
            known.ended = ended
            if self.make_pod is not None and labels.get("retry") != "no":
                namespace, next_number = meta["namespace"], known.number + 1
                self._later(self.restart_seconds, lambda: self._next(namespace, known.execution, next_number, pod, ended))

    def _next(self, namespace: str, execution: str, number: int, before: Object, ended: str) -> None:
        if self.make_pod is None:  # the scenario has ended meanwhile
            return
        if ended == "failed":  # Flyte deletes what failed
            self._safely(lambda: self._end(before))
        self.api.create(pods_path(namespace), self.make_pod(namespace, execution, number))

    def of_execution(self, execution: str) -> list[Attempt]:
        return sorted((a for a in list(self.attempts.values()) if a.execution == execution), key=lambda a: a.number)


def _delete(path: str, body: Object) -> Any:
    from lehr.infra.kube.transport import Request

    return Request("DELETE", path, body=body)


def _is_bad(message: str) -> bool:
    try:
        return is_bad(decode(Verdict, message))
    except ValueError:
        return False
