"""From the cached objects to the views that `decide` takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import (
    SUITE,
    JobObject,
    JobPodObject,
    NodeObject,
    PodObject,
    job_object,
    job_pod_object,
    lost,
    node_object,
    pod_object,
    report_object,
)
from lehr.infra.controller.parsers import noted, unreadable
from lehr.infra.controller.reports import ReportTable, bounded
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.signals import MAX_SIGNALS, is_bad
from lehr.infra.fleet.views import HumanAct, JobView, NodeView, PodView, Report
from lehr.infra.kube.api import NODES, Api, Object
from lehr.infra.kube.cache import CachedObject, Dirty, Table
from lehr.infra.kube.text import plain
from lehr.infra.kube.watch import Reflector

F = TypeVar("F", bound=CachedObject)
LOG = logging.getLogger("lehr.infra.controller")
EARLIER = -1  # attempt number of a Job that is no longer waited for
MAX_ODD = 4096  # nodes remembered: bounds the memory


class State:
    """Every watched table, and the views made from them. Views of unchanged nodes are kept."""

    def __init__(self, api: Api, settings: Settings, metrics: ControllerMetrics) -> None:
        self._api, self._settings, self._metrics = api, settings, metrics
        self.dirty = Dirty()
        self._odd: dict[str, str] = {}  # node -> its unreadable annotations, logged once
        system = settings.system_namespace
        self.nodes: Table[NodeObject] = Table(self.dirty)
        self.jobs: Table[JobObject] = Table(self.dirty)
        self.job_pods: Table[JobPodObject] = Table(self.dirty)
        self.pods: dict[str, Table[PodObject]] = {name: Table(self.dirty) for name in settings.namespaces}
        self.reports = {name: ReportTable(self.dirty) for name in settings.namespaces}
        self.node_watch = self._reflect(NODES, self.read_node, self.nodes, f"{NAMES.managed_label}=true")
        self.reflectors: list[Reflector[Any]] = [
            self.node_watch,
            self._reflect(f"/apis/batch/v1/namespaces/{system}/jobs", job_object, self.jobs, SUITE),
            self._reflect(f"/api/v1/namespaces/{system}/pods", job_pod_object, self.job_pods, SUITE),
        ]
        for name in settings.namespaces:
            self.reflectors += [
                self._reflect(f"/api/v1/namespaces/{name}/pods", self.read_pod, self.pods[name]),
                self._reflect(f"/apis/{NAMES.prefix}/v1/namespaces/{name}/nodereports", report_object, self.reports[name]),
            ]
        self._views: dict[str, NodeView] = {}
        self._shown: dict[str, NodeObject] = {}

    def _reflect(self, path: str, parse: Callable[[Object], F], table: Table[F], selector: str = "") -> Reflector[F]:
        query = {"labelSelector": selector} if selector else {}
        return Reflector(self._api, path, parse, table, query, self._settings.relist_seconds, self._metrics.error)

    def read_pod(self, item: Object) -> PodObject:
        """The kept part of a pod. A verdict that is ignored, because the pod is not trusted, is logged in one line."""
        chosen = self._settings
        found = pod_object(item, chosen.gpu_resource, chosen.allowed_images, chosen.preflight_variables)
        before = self.pods[found.view.namespace].get(found.key)
        new = before is None or before.uid != found.uid or before.view.verdict is None
        if new and not found.view.trusted and found.view.verdict is not None and is_bad(found.view.verdict):
            self._metrics.error("untrusted")
            LOG.warning("%s: its verdict is ignored: the pod did not run an allowed image's probes alone", plain(found.key))
        return found

    def read_node(self, item: Object) -> NodeObject:
        """The kept part of a Node. Our annotations that cannot be read are logged in one line when they are new."""
        found = node_object(item, self._settings.gpu_resource)
        odd = ", ".join(unreadable(found.annotations))
        if odd != self._odd.get(found.key, ""):
            self._odd.pop(found.key, None)
            if odd and len(self._odd) < MAX_ODD:
                self._odd[found.key] = odd
                self._metrics.error("unreadable")
                LOG.warning("%s: skipped, as it cannot be read: %s", plain(found.key), odd)
        return found

    @property
    def synced(self) -> bool:
        return all(r.synced.is_set() for r in self.reflectors)

    def all_pods(self) -> list[PodObject]:
        """Every pod of the training namespaces that the API server has."""
        return [pod for table in self.pods.values() for pod in table.all()]

    def refresh(self, names: set[str], now: float) -> dict[str, NodeView]:
        """The views of all managed nodes; those in `names` are made anew."""
        for name in names:
            found = self.nodes.get(name)
            if found is None:
                self._views.pop(name, None)
                self._shown.pop(name, None)
            else:
                self._shown[name], self._views[name] = found, self._view(found, now)
        return self._views

    def shown(self, name: str) -> NodeObject:
        """The Node from which its view was made. Writes carry its resourceVersion, so they fail if anything has changed
        since."""
        return self._shown[name]

    def _view(self, node: NodeObject, now: float) -> NodeView:
        notes = node.annotations
        return NodeView(
            name=node.key,
            pool=node.labels.get(NAMES.pool_label, "default"),
            rack=node.labels.get(NAMES.rack_label, ""),
            managed=node.labels.get(NAMES.managed_label) == "true",
            unschedulable=node.unschedulable,
            ready=node.ready,
            ready_since=node.ready_since,
            created_at=node.created_at,
            gpus=node.gpus,
            record=node.record,
            hold=noted(HumanAct, notes.get(NAMES.hold_annotation)),
            override=noted(HumanAct, notes.get(NAMES.override_annotation)),
            repaired=noted(HumanAct, notes.get(NAMES.repaired_annotation)),
            unschedulable_by=node.unschedulable_by,
            pods=tuple(self._pods(node, now)),
            jobs=tuple(self._jobs(node)),
            reports=tuple(self._reports(node, now)),
            conditions=node.conditions,
        )

    def _reports(self, node: NodeObject, now: float) -> Iterator[Report]:
        """The reports that still count, and those whose outcome the record holds."""
        made = bounded(report for table in self.reports.values() for report in table.of_node(node.key))
        judged = {d.report for d in node.record.dispositions} if node.record is not None else set()
        since = now - self._settings.policy.signal_window_seconds
        for report in sorted(made, key=lambda r: r.key):
            view = report.view
            # A report older than the Node object is about another machine of the same name.
            if view.at >= node.created_at and (view.at > since or f"report/{view.id}" in judged):
                yield view

    def _pods(self, node: NodeObject, now: float) -> Iterator[PodView]:
        ended: list[PodObject] = []
        for table in self.pods.values():
            for pod in sorted(table.of_node(node.key), key=lambda p: p.key):
                if not pod.finished:
                    yield lost(pod, now)
                elif self._is_news(pod, node, now):
                    ended.append(pod)
        # However many have ended: verdicts first, which exit codes must not displace, then the latest of every tenant.
        ended.sort(key=lambda p: -(p.view.ended_at or 0.0))
        seen: Counter[tuple[str, bool]] = Counter()
        ranked: list[tuple[bool, int, PodObject]] = []
        for pod in ended:
            silent = pod.view.verdict is None
            ranked.append((silent, seen[pod.view.namespace, silent], pod))
            seen[pod.view.namespace, silent] += 1
        ranked.sort(key=lambda r: r[:2])
        yield from (lost(pod, now) for _, _, pod in ranked[:MAX_SIGNALS])

    def _is_news(self, pod: PodObject, node: NodeObject, now: float) -> bool:
        """Whether a finished pod still has to be shown: it holds no GPU, and is only shown until its outcome is recorded."""
        view, record = pod.view, node.record
        ended = view.ended_at or (view.verdict.finished_at if view.verdict else 0.0) or view.created_at
        if ended < node.created_at or now - ended > self._settings.policy.signal_window_seconds:
            return False
        noted = {s.key for s in record.signals} if record is not None else set()
        says = {NAMES.exit_suspect: "exit", NAMES.exit_hang: "hang"}.get(view.exit_code or 0, "")
        news = bool(says) and f"{says}/{view.uid}" not in noted
        news |= view.at_gate and view.verdict is not None and f"pod/{view.uid}" not in noted
        return news and ended > (record.ignore_before if record is not None else 0.0)

    def _jobs(self, node: NodeObject) -> Iterator[JobView]:
        pods = {pod.job: pod for pod in sorted(self.job_pods.of_node(node.key), key=lambda p: p.version)}
        for job in sorted(self.jobs.of_node(node.key), key=lambda j: j.view.attempt):
            pod = pods.get(job.view.name)
            if job.machine not in ("", node.uid):  # made for another machine of the same name: not one of our attempts
                yield replace(job.view, attempt=EARLIER)
                continue
            if pod is not None and pod.finished_at is not None:
                yield replace(job.view, verdict=pod.verdict, finished_at=pod.finished_at)
            else:
                yield replace(job.view, address=pod.address) if pod is not None and pod.address else job.view

    def settle_jobs(self, node: str) -> None:
        """Fetch the pods of finished Jobs whose pods' watch lags behind: otherwise the Job would count as without a verdict."""
        heard = {pod.job for pod in self.job_pods.of_node(node) if pod.finished_at is not None}
        for job in self.jobs.of_node(node):
            if job.view.finished_at is not None and job.view.name not in heard and not job.view.deleting:
                path = f"/api/v1/namespaces/{self._settings.system_namespace}/pods"
                for item in self._api.items(path, {"labelSelector": f"batch.kubernetes.io/job-name={job.view.name}"}):
                    self.job_pods.put(job_pod_object(item))
