"""Carries out the actions of one decision in their order. It stops at the first request that fails: the remaining actions were
decided for a state that did not come about. Every write to a Node carries the resourceVersion that was decided upon, every
deletion the uid, so that the API server refuses them for an object that has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import assert_never

from lehr.infra.controller import patches
from lehr.infra.controller.events import EventSender
from lehr.infra.controller.jobs import job, pair_job
from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import NodeObject, job_object, node_object, pod_object
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import State
from lehr.infra.fleet.actions import (
    Action,
    Cordon,
    DeleteJob,
    DeletePod,
    FlagRepair,
    OpenBreaker,
    RecordHold,
    Release,
    SetState,
    StartPair,
    StartRevalidation,
)
from lehr.infra.fleet.views import NodeView
from lehr.infra.kube.api import NODES, Api, ApiError, Object
from lehr.monitoring.metrics import Fleet

LOG = logging.getLogger("lehr.infra.controller")
NOT_FOUND, CONFLICT = 404, 409


class NotLeading(Exception):
    """The Lease was lost between the decision and the request."""


class Executor:
    """`may_write` is called right before every write; `clock` is Unix time in seconds."""

    def __init__(
        self,
        api: Api,
        state: State,
        settings: Settings,
        metrics: ControllerMetrics,
        events: EventSender,
        may_write: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._api, self._state, self._settings = api, state, settings
        self._metrics, self._events, self._may_write, self._clock = metrics, events, may_write, clock

    def carry_out(self, view: NodeView, node: NodeObject, actions: Sequence[Action]) -> None:
        """Raises ApiError, InfraError or OSError of the request that failed, NotLeading if this replica no longer leads."""
        for action in actions:
            self._one(view, node, action)

    def tidy(self, node: NodeObject) -> bool:
        """Correct our condition, label, taints and cordon annotation if they differ from the record. True: something was
        written. Raises as `carry_out`."""
        repair = patches.repairs(node, self._settings.policy)
        if repair is not None:
            self._fence()
            self._note(self._api.merge(f"{NODES}/{node.key}", repair))
        condition = patches.condition_patch(node, self._clock())
        if condition is not None:
            self._fence()
            self._note(self._api.strategic(f"{NODES}/{node.key}/status", condition))
        return repair is not None or condition is not None

    def _one(self, view: NodeView, node: NodeObject, action: Action) -> None:
        # Fenced for each action: a decision may have several, and the Lease may run out between two.
        self._fence()
        match action:
            case Cordon() | Release() | SetState() | RecordHold() | FlagRepair():
                self._write(node, action)
                self._notify(view, node, action)
            case StartRevalidation():
                if view.record != action.record:
                    self._write(node, action)
                self._create_job(node, job(node, action, self._settings), action.suite, action.event)
            case StartPair():
                if view.record != action.record:
                    self._write(node, action)
                self._start_pair(node, action)
            case DeletePod():
                self._delete_pod(view, node, action)
            case DeleteJob():
                self._delete_job(action)
            case OpenBreaker():
                self._metrics.count(Fleet.BLOCKED)
                self._events.event(node, action.event, action.reason, self._clock())
                self._events.webhook("breaker-open", node.key, action, self._clock())
            case _:
                assert_never(action)

    def _fence(self) -> None:
        if not self._may_write():
            raise NotLeading

    def _write(self, node: NodeObject, action: Action) -> None:
        """Write one patch and keep the server's answer, which the next `decide` sees. A cordon is read back, because a pod is
        deleted on the strength of it."""
        patch = patches.node_patch(node, action, self._settings.policy)
        self._note(self._api.merge(f"{NODES}/{node.key}", patch))
        if isinstance(action, Cordon):
            self.read_back(node)

    def read_back(self, node: NodeObject) -> None:
        try:
            self._note(self._api.get(f"{NODES}/{node.key}"))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._state.nodes.drop(node.key, node.uid, node.version)

    def _note(self, item: dict[str, object]) -> None:
        self._state.nodes.put(node_object(item, self._settings.gpu_resource))

    def _start_pair(self, node: NodeObject, action: StartPair) -> None:
        place = node if action.role == "listen" else self._state.nodes.get(action.partner)
        if place is None:  # the partner was removed: the test will time out
            raise LookupError(f"{action.partner}, with which it is to be tested, is gone")
        self._create_job(node, pair_job(node, place, action, self._settings), "pair", action.event)

    def _create_job(self, node: NodeObject, body: Object, suite: str, event: str) -> None:
        path = f"/apis/batch/v1/namespaces/{self._settings.system_namespace}/jobs"
        try:
            made = self._api.create(path, body)
            self._metrics.count(Fleet.REVALIDATIONS, suite=suite)
            self._events.event(node, event, f"{suite}: {body['metadata']['name']} started", self._clock())
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            made = self._api.get(f"{path}/{body['metadata']['name']}")  # created by us before a restart
        self._state.jobs.put(job_object(made))

    def _delete_pod(self, view: NodeView, node: NodeObject, action: DeletePod) -> None:
        outcome = "deleted"
        path = f"/api/v1/namespaces/{action.namespace}/pods/{action.name}"
        table = self._state.pods[action.namespace]
        try:
            found = self._api.delete(path, action.uid)
            if found.get("kind") == "Pod":
                chosen = self._settings
                table.put(pod_object(found, chosen.gpu_resource, chosen.allowed_images, chosen.preflight_variables))
        except ApiError as error:
            if error.status != NOT_FOUND:  # a conflict may mean another uid or a concurrent change: decide again
                raise
            outcome = "gone"
            known = table.get(f"{action.namespace}/{action.name}")
            if known is not None:
                table.drop(known.key, action.uid, known.version)
        now = self._clock()
        self._metrics.count(Fleet.POD_DELETIONS, outcome=outcome)
        if view.record is not None and view.record.cordon is not None and outcome == "deleted":
            self._metrics.observe(Fleet.CORDON_TO_DELETION, now - max(view.record.cordon.at, self._seen_at(view, action)))
        self._events.event(node, action.event, f"pod {action.namespace}/{action.name} removed: {action.reason}", now)

    @staticmethod
    def _seen_at(view: NodeView, action: DeletePod) -> float:
        """The time of the pod's verdict: if the pod landed on a node cordoned long before, the delay is measured from it."""
        pod = next((p for p in view.pods if p.uid == action.uid), None)
        return pod.verdict.finished_at if pod is not None and pod.verdict is not None else 0.0

    def _delete_job(self, action: DeleteJob) -> None:
        path = f"/apis/batch/v1/namespaces/{self._settings.system_namespace}/jobs/{action.name}"
        try:
            found = self._api.delete(path, action.uid)
            if found.get("kind") == "Job":
                self._state.jobs.put(job_object(found))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        known = self._state.jobs.get(f"{self._settings.system_namespace}/{action.name}")
        if known is not None:
            self._state.jobs.drop(known.key, action.uid, known.version)

    def _notify(self, view: NodeView, node: NodeObject, action: Cordon | Release | SetState | RecordHold | FlagRepair) -> None:
        now = self._clock()
        reason = action.cordon.reason if isinstance(action, Cordon) else getattr(action, "reason", "")
        reason = action.hold.reason if isinstance(action, RecordHold) else reason
        self._events.event(node, action.event, reason, now)
        if isinstance(action, Cordon):
            self._count_cordon(action, now)
            self._events.webhook("cordon", node.key, action.cordon, now)
        elif isinstance(action, FlagRepair):
            self._metrics.count(Fleet.REPAIRS, state=action.record.state.value)
            self._events.webhook("repair", node.key, action.record, now)
        elif isinstance(action, Release):
            self._count_release(view, action, now)
        elif isinstance(action, SetState) and action.event == "QuarantineBlocked":
            self._metrics.count(Fleet.BLOCKED)
        elif isinstance(action, SetState) and action.event == "HumanOverride":
            self._metrics.count(Fleet.UNCORDONS, source="human")
        if isinstance(action, SetState) and action.event.startswith("Revalidation"):
            self._metrics.count(Fleet.REVALIDATION_RESULTS, outcome=action.event.removeprefix("Revalidation").lower())
        before = {d.report for d in view.record.dispositions} if view.record is not None else set()
        for judged in action.record.dispositions:
            if judged.report not in before:
                self._metrics.count(Fleet.REPORTS, disposition="confirmed" if judged.confirmed else "refuted")

    def _count_cordon(self, action: Cordon, now: float) -> None:
        cordon = action.cordon
        self._metrics.count(Fleet.CORDONS, source=cordon.source, reason=cordon.check or cordon.source)
        self._metrics.count(Fleet.GPU_SECONDS_LOST, 3600 * (cordon.gpu_hours_lost or 0.0), source=cordon.source)
        cause = next((s for s in action.record.signals if s.key == cordon.evidence), None)
        if cause is not None and cause.source == "preflight":
            self._metrics.observe(Fleet.VERDICT_TO_CORDON, now - cause.at)

    def _count_release(self, view: NodeView, action: Release, now: float) -> None:
        self._metrics.count(Fleet.UNCORDONS, source="revalidation" if action.event == "NodeReturned" else "hold-ended")
        self._metrics.count(Fleet.REVALIDATION_RESULTS, outcome="passed")
        cordon = view.record.cordon if view.record is not None else None
        if cordon is not None and cordon.source != "burn-in":
            self._metrics.observe(Fleet.QUARANTINE, now - cordon.at)
            if view.record is not None and view.record.failures == 0:
                self._metrics.count(Fleet.FALSE_CORDONS, source=cordon.source)
