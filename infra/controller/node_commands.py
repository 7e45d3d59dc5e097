"""Operator actions on nodes: cordon, uncordon, declare repaired, report. They take precedence in `decide`.

Each is one patch with the resourceVersion that was read, so that nothing is done to a node that changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.infra.controller.objects import NodeObject, node_object
from lehr.infra.controller.parsers import noted, parsed, seconds
from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import CordonRecord, HumanAct, NodeState, Signal
from lehr.infra.kube.api import NODES, Api, ApiError, Object

TRIES = 5
CONFLICT = 409


@dataclass(frozen=True)
class NodeInfo:
    """A node as shown to people. `state` is "held" for a person's cordon, "unmanaged" for nodes that Lehr does not manage."""

    cached: NodeObject
    state: str
    cordon: CordonRecord | None
    hold: HumanAct | None

    @property
    def reason(self) -> str:
        if self.hold is not None:
            return self.hold.reason
        if self.cordon is not None:
            return f"{self.cordon.reason}: {self.cordon.detail}" if self.cordon.detail else self.cordon.reason
        cause = self._cause
        if cause is not None and cause.detail:
            return f"{cause.reason}: {cause.detail}"
        return self.cached.record.reason if self.cached.record is not None else ""

    @property
    def _cause(self) -> Signal | None:
        """The newest signal that explains the node's state."""
        record = self.cached.record
        if record is None or self.cached.unschedulable:
            return None
        return next((s for s in reversed(record.signals) if s.reason == record.reason), None)

    @property
    def by(self) -> str:
        if self.hold is not None:
            return self.hold.by
        if self.cordon is not None:
            return self.cordon.source
        if self._cause is not None:
            return self._cause.by or self._cause.source
        return self.cached.unschedulable_by if self.cached.unschedulable else ""

    @property
    def since(self) -> float:
        if self.hold is not None:
            return self.hold.at
        return self.cached.record.since if self.cached.record is not None else 0.0


def info(item: Object, gpu_resource: str = GPU_RESOURCE) -> NodeInfo:
    cached = node_object(item, gpu_resource)
    record = cached.record
    cordon = record.cordon if record is not None else None
    hold = noted(HumanAct, cached.annotations.get(NAMES.hold_annotation)) if cached.unschedulable else None
    if cached.unschedulable and cordon is None:
        state = "held"
    elif cached.labels.get(NAMES.managed_label) != "true":
        state = "unmanaged"
    else:
        state = (record.state if record is not None else NodeState.HEALTHY).value
    return NodeInfo(cached, state, cordon if cached.unschedulable else None, hold)


def listed(api: Api, selector: str = "", gpu_resource: str = GPU_RESOURCE) -> list[NodeInfo]:
    """All nodes, or those that match the label selector, by name. Raises ApiError."""
    items = api.items(NODES, {"labelSelector": selector} if selector else {})
    return sorted((info(item, gpu_resource) for item in items), key=lambda n: n.cached.key)


def one(api: Api, name: str, gpu_resource: str = GPU_RESOURCE) -> NodeInfo:
    return info(api.get(f"{NODES}/{name}"), gpu_resource)


def whoami(api: Api) -> str:
    """The user name under which the API server authenticated the caller. Raises ApiError."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    found = api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    return str(found["status"]["userInfo"]["username"])


def cordon(api: Api, name: str, act: HumanAct) -> NodeInfo:
    """Hold the node until somebody lifts the hold, or until `act.until`. Raises ApiError."""
    return _patch(api, name, {NAMES.hold_annotation: encode(act), NAMES.override_annotation: None}, unschedulable=True)


def uncordon(api: Api, name: str, act: HumanAct) -> NodeInfo:
    """Make the node schedulable, whoever cordoned it; the controller leaves it alone for Policy.override_seconds. Raises
    ApiError."""
    return _patch(api, name, {NAMES.override_annotation: encode(act), NAMES.hold_annotation: None}, unschedulable=False)


def repaired(api: Api, name: str, act: HumanAct) -> NodeInfo:
    """Declare that a node in repair, or a lemon, may be tested again. It returns to service if it passes. Raises ApiError."""
    return _patch(api, name, {NAMES.repaired_annotation: encode(act)})


def _patch(api: Api, name: str, notes: dict[str, str | None], unschedulable: bool | None = None) -> NodeInfo:
    for attempt in range(TRIES):
        version = api.get(f"{NODES}/{name}")["metadata"]["resourceVersion"]
        patch: Object = {"metadata": {"resourceVersion": version, "annotations": notes}}
        if unschedulable is not None:
            patch["spec"] = {"unschedulable": unschedulable or None}
        try:
            return info(api.merge(f"{NODES}/{name}", patch))
        except ApiError as error:
            if error.status != CONFLICT or attempt + 1 == TRIES:
                raise
    raise AssertionError("unreachable")


def report(api: Api, namespace: str, name: str, reason: str, by: str) -> str:
    """Create a NodeReport and return its name. Raises ApiError; 404 if the cluster has no NodeReport resource."""
    body = {
        "apiVersion": f"{NAMES.prefix}/v1",
        "kind": "NodeReport",
        "metadata": {"generateName": "report-"},
        "spec": {"node": name, "reason": reason, "by": by},
    }
    made = api.create(f"/apis/{NAMES.prefix}/v1/namespaces/{namespace}/nodereports", body)
    return str(made["metadata"]["name"])


def close_breaker(api: Api, namespace: str, lease: str, key: str, act: HumanAct) -> None:
    """Reset a breaker's count: a person found that the cordons were right, or fixed the check. Raises ApiError."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}"
    found = api.get(path)["metadata"]
    acts = parsed(dict[str, HumanAct], (found.get("annotations") or {}).get(NAMES.reset_annotation)) or {}
    notes = {NAMES.reset_annotation: encode({**acts, key: act})}
    api.merge(path, {"metadata": {"annotations": notes}})


@dataclass(frozen=True)
class Happening:
    """One line of a node's history."""

    at: float
    what: str
    why: str
    by: str = ""


def history(node: NodeInfo, events: list[Object]) -> list[Happening]:
    """A node's known past, oldest first: its record, and the Events that the server still has (by default for an hour)."""
    found = [Happening(_event_time(e), str(e.get("reason", "")), str(e.get("message", "")), _component(e)) for e in events]
    record = node.cached.record
    if record is not None:
        told = {(h.what, round(h.at / 10)) for h in found}
        found += [
            Happening(q.at, "NodeQuarantined", f"{q.check} {q.check_version}".strip() or "condition or report", "controller")
            for q in record.quarantines
            if not {("NodeQuarantined", round(q.at / 10)), ("NodeQuarantined", round(q.at / 10) + 1)} & told
        ]
        found += [Happening(s.at, f"Signal/{s.outcome.value}", _words(s), s.by or s.source) for s in record.signals]
        found += [
            Happening(d.at, "ReportConfirmed" if d.confirmed else "ReportRefuted", d.report, d.by) for d in record.dispositions
        ]
        if record.override is not None and "HumanOverride" not in {h.what for h in found}:
            found.append(Happening(record.override.at, "Uncordoned", record.override.reason, record.override.by))
        if record.last_validated_at is not None:
            found.append(Happening(record.last_validated_at, "Validated", "passed its revalidations", "controller"))
    if node.hold is not None:
        found.append(Happening(node.hold.at, "Held", node.hold.reason, node.hold.by))
    # Events have whole seconds; within a second a signal comes before its effects.
    return sorted(found, key=lambda h: (int(h.at), not h.what.startswith("Signal/"), h.at))


def _words(signal: Signal) -> str:
    reason = signal.reason or signal.check
    return f"{reason}: {signal.detail}" if signal.detail else reason


def events_of(api: Api, name: str) -> list[Object]:
    """Events about a Node. Raises ApiError: reading Events is a separate permission."""
    return api.items(
        "/api/v1/namespaces/default/events", {"fieldSelector": f"involvedObject.name={name},involvedObject.kind=Node"}
    )


def _event_time(event: Object) -> float:
    return seconds(
        event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp")
    )


def _component(event: Object) -> str:
    source: Any = event.get("source") or {}
    return str(source.get("component") or event.get("reportingComponent") or "")
