"""What the controller keeps of each object: small frozen values made from the API's JSON, as soon as it arrives.

A Node is 10 to 30 KiB of JSON, what is kept of it well under 2. What pods and people wrote goes through `parsers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lehr.infra.controller.parsers import REASON, count, moment, noted, progress, record_of, seconds, verdict_of, whole
from lehr.infra.controller.preflight import is_ours
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.views import (
    UNKNOWN_PERSON,
    Condition,
    CordonRecord,
    JobView,
    NodeRecord,
    NodeState,
    PodView,
    Report,
    Verdict,
)
from lehr.infra.kube.cache import CachedObject
from lehr.infra.kube.text import plain

Object = dict[str, Any]
READINESS = ("Ready", "NetworkUnavailable")
FLYTE_EXECUTION, FLYTE_PROJECT = "execution-id", "project"
PROGRESS = f"{NAMES.prefix}/progress"  # JSON: run, rank, nodes, step, checkpoint_step, checkpoint_at
NODE, ATTEMPT, SUITE = f"{NAMES.prefix}/node", f"{NAMES.prefix}/attempt", f"{NAMES.prefix}/suite"
MACHINE = f"{NAMES.prefix}/node-uid"
METRICS_PORT = "lehr-metrics"  # lehr.infra.pod.pod_template.METRICS_PORT_NAME
LONGEST_LABEL = 63
ROLE = f"{NAMES.prefix}/role"  # in a pair test: "listen" or "connect"


@dataclass(frozen=True, slots=True)
class NodeObject(CachedObject):
    labels: Mapping[str, str]  # only those with our prefix
    annotations: Mapping[str, str]  # only those with our prefix
    taints: tuple[Mapping[str, str], ...]  # all of them: the API replaces the list as a whole
    unschedulable: bool
    unschedulable_by: str
    ready: bool
    ready_since: float
    created_at: float
    gpus: int
    conditions: tuple[Condition, ...]  # those of others that are True
    own_condition: tuple[str, str]  # status and reason of ours; empty if there is none
    record: NodeRecord | None


@dataclass(frozen=True, slots=True)
class PodObject(CachedObject):
    view: PodView
    finished: bool
    started_at: float
    checkpoint_at: float
    run: str = ""  # by its label
    serves: bool = False  # its main container runs and has the port of the run's metrics
    preflight: tuple[float, float] = (0.0, 0.0)  # from its first container's start to its last one's end; 0: not yet


@dataclass(frozen=True, slots=True)
class JobObject(CachedObject):
    view: JobView  # without its verdict, which is in the pod
    machine: str  # uid of the Node for which it was made


@dataclass(frozen=True, slots=True)
class JobPodObject(CachedObject):
    """A revalidation Job's pod. `address` is set while it runs."""

    job: str
    finished_at: float | None
    verdict: Verdict | None
    address: str = ""


@dataclass(frozen=True, slots=True)
class ReportObject(CachedObject):
    view: Report


def _base(item: Object, node: str) -> tuple[str, str, int, str]:
    meta = item["metadata"]
    key = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
    return key, str(meta.get("uid", "")), count(meta.get("resourceVersion")), node


def _ours(items: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (items or {}).items() if key.startswith(f"{NAMES.prefix}/")}


def node_object(item: Object, gpu_resource: str) -> NodeObject:
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    conditions = {str(c.get("type")): c for c in status.get("conditions") or []}
    ready, own = conditions.get("Ready", {}), conditions.get(NAMES.condition)
    annotations = _ours(meta.get("annotations"))
    unschedulable = bool(spec.get("unschedulable"))
    return NodeObject(
        *_base(item, str(meta["name"])),
        labels=_ours(meta.get("labels")),
        annotations=annotations,
        taints=tuple({k: str(v) for k, v in taint.items()} for taint in spec.get("taints") or []),
        unschedulable=unschedulable,
        unschedulable_by=_cordoner(meta) if unschedulable else UNKNOWN_PERSON,
        ready=ready.get("status") == "True",
        ready_since=seconds(ready.get("lastTransitionTime")),
        created_at=seconds(meta.get("creationTimestamp")),
        gpus=count((status.get("capacity") or {}).get(gpu_resource)),
        conditions=tuple(_conditions(conditions)),
        own_condition=(str(own.get("status")), str(own.get("reason", ""))) if own else ("", ""),
        record=record_of(annotations.get(NAMES.record_annotation)) or _remembered(annotations, unschedulable),
    )


def _remembered(annotations: Mapping[str, str], unschedulable: bool) -> NodeRecord | None:
    """The record remade from the cordon's annotation, if the record itself is gone or unreadable: that the cordon is ours, and
    why."""
    cordon = noted(CordonRecord, annotations.get(NAMES.cordon_annotation)) if unschedulable else None
    return NodeRecord(NodeState.QUARANTINED, cordon.at, cordon.reason, cordon) if cordon is not None else None


def _conditions(found: Mapping[str, Object]) -> list[Condition]:
    skipped = (*READINESS, NAMES.condition)
    true = (c for kind, c in found.items() if kind not in skipped and c.get("status") == "True")
    return [Condition(plain(c["type"]), plain(c.get("reason", ""), REASON), seconds(c.get("lastTransitionTime"))) for c in true]


def _cordoner(meta: Object) -> str:
    """The program that set unschedulable. The API keeps only its name; the person is in the API server's audit log."""
    for entry in meta.get("managedFields") or []:
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}):
            return f"unknown ({entry.get('manager', 'kubectl')})"
    return UNKNOWN_PERSON


def pod_object(item: Object, gpu_resource: str, allowed_images: Sequence[str], variables: Sequence[str] = ()) -> PodObject:
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    inits = {str(s.get("name")): s for s in status.get("initContainerStatuses") or []}
    preflight = inits.get(NAMES.preflight_container, {})
    main = _main_state(status)
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    words = {**progress(annotations.get(PROGRESS)), **progress(main.get("message"))}
    finished = status.get("phase") in ("Succeeded", "Failed")
    began = len(inits) == len(spec.get("initContainers") or []) and all(_done(s) for s in inits.values())
    view = PodView(
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        uid=str(meta.get("uid", "")),
        created_at=seconds(meta.get("creationTimestamp")),
        verdict=verdict_of(_terminated(preflight).get("message")),
        at_gate=not began,
        deleting=bool(meta.get("deletionTimestamp")),
        exit_code=main.get("exitCode"),
        ended_at=seconds(main["finishedAt"]) if main.get("finishedAt") else None,
        trusted=is_ours(spec, status, allowed_images, gpu_resource, variables),
        gpus=sum(_gpus(c, gpu_resource) for c in spec.get("containers") or []),
        grace_seconds=float(spec.get("terminationGracePeriodSeconds") or 30),
        project=str(labels.get(FLYTE_PROJECT, "")),
        run=plain(words.get("run") or labels.get(f"{NAMES.prefix}/run", ""), 200),
        execution=str(labels.get(FLYTE_EXECUTION, "")),
        rank=whole(words.get("rank")),
        nodes=max(0, whole(words.get("nodes")) or 0),
        step=whole(words.get("step")),
        checkpoint_step=whole(words.get("checkpoint_step")),
    )
    started = seconds(status.get("startTime")) or view.created_at
    return PodObject(
        *_base(item, str(spec.get("nodeName", ""))),
        view,
        finished,
        started,
        moment(words.get("checkpoint_at")),
        run=plain(labels.get(NAMES.run_label, ""), LONGEST_LABEL),
        serves=_serves(spec, status),
        preflight=_preflight_times(preflight, inits.get(NAMES.gate_container, {})),
    )


def _serves(spec: Object, status: Object) -> bool:
    serving = {
        c.get("name") for c in spec.get("containers") or [] for p in c.get("ports") or [] if p.get("name") == METRICS_PORT
    }
    running = {c.get("name") for c in status.get("containerStatuses") or [] if (c.get("state") or {}).get("running")}
    return bool(serving & running)


def _preflight_times(preflight: Object, gate: Object) -> tuple[float, float]:
    state = preflight.get("state") or {}
    began = _terminated(preflight).get("startedAt") or (state.get("running") or {}).get("startedAt")
    if not began:
        return (0.0, 0.0)
    ended = _terminated(gate).get("finishedAt")
    return seconds(began), seconds(ended) if ended else 0.0


def lost(pod: PodObject, now: float) -> PodView:
    """The pod's view with the GPU-hours lost if it ends at `now`: since its last checkpoint, or since its start."""
    until = pod.view.ended_at or now
    hours = max(0.0, until - max(pod.started_at, pod.checkpoint_at)) / 3600
    return replace(pod.view, gpu_hours_lost=round(hours * pod.view.gpus, 3))


def _terminated(container: Object) -> Object:
    """The state of an ended container; while it is restarting, that of its previous run."""
    state = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    return state if isinstance(state, dict) else {}


def _done(container: Object) -> bool:
    return ((container.get("state") or {}).get("terminated") or {}).get("exitCode") == 0


def _main_state(status: Object) -> Object:
    """The ended main container's state: of several, the one with the highest exit code."""
    states = [(c.get("state") or {}).get("terminated") or {} for c in status.get("containerStatuses") or []]
    return max((s for s in states if s), key=lambda s: int(s.get("exitCode") or 0), default={})


def _gpus(container: Object, resource: str) -> int:
    return count(((container.get("resources") or {}).get("limits") or {}).get(resource))


def job_object(item: Object) -> JobObject:
    meta, status = item["metadata"], item.get("status") or {}
    annotations = meta.get("annotations") or {}
    ends = [
        seconds(c.get("lastTransitionTime"))
        for c in status.get("conditions") or []
        if c.get("type") in ("Complete", "Failed") and c.get("status") == "True"
    ]
    view = JobView(
        name=str(meta["name"]),
        uid=str(meta.get("uid", "")),
        attempt=count(annotations.get(ATTEMPT)),
        created_at=seconds(meta.get("creationTimestamp")),
        finished_at=min(ends) if ends else None,
        deleting=bool(meta.get("deletionTimestamp")),
        role=str(annotations.get(ROLE, "")),
    )
    return JobObject(*_base(item, str(annotations.get(NODE, ""))), view, str(annotations.get(MACHINE, "")))


def job_pod_object(item: Object) -> JobPodObject:
    meta, status = item["metadata"], item.get("status") or {}
    state = _main_state(status)
    ended = seconds(state["finishedAt"]) if state.get("finishedAt") else None
    job = str((meta.get("labels") or {}).get("batch.kubernetes.io/job-name", ""))
    node = str((meta.get("annotations") or {}).get(NODE, ""))
    address = str(status.get("podIP", "")) if status.get("phase") == "Running" else ""
    return JobPodObject(*_base(item, node), job, ended, verdict_of(state.get("message")), address)


def report_object(item: Object) -> ReportObject:
    meta, spec = item["metadata"], item.get("spec") or {}
    at = seconds(meta.get("creationTimestamp"))
    view = Report(str(meta.get("uid", "")), plain(spec.get("by", "")), plain(spec.get("reason", "")), at)
    return ReportObject(*_base(item, str(spec.get("node", ""))), view)
