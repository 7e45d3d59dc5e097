"""From the mirrored facts to the views that `decide` takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from lehr.infra.controller.api import NODES, Api, Object
from lehr.infra.controller.facts import (
    SUITE,
    Fact,
    JobFact,
    JobPodFact,
    NodeFact,
    PodFact,
    job_fact,
    job_pod_fact,
    lost,
    node_fact,
    pod_fact,
    report_fact,
)
from lehr.infra.controller.measures import Measures
from lehr.infra.controller.mirror import Dirty, Table
from lehr.infra.controller.readers import noted, plain, unreadable
from lehr.infra.controller.reports import ReportTable, bounded
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.watch import Reflector
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.signals import MAX_SIGNALS, is_bad
from lehr.infra.fleet.views import HumanAct, JobView, NodeView, PodView, Report

F = TypeVar("F", bound=Fact)
LOG = logging.getLogger("lehr.infra.controller")
EARLIER = -1  # attempt of a Job that nobody waits for
MAX_ODD = 4096


class State:
    """Every watched table, and the views made of them. Views of nodes that did not change are kept."""

    def __init__(self, api: Api, settings: Settings, measures: Measures) -> None:
        self._api, self._settings, self._measures = api, settings, measures
        self.dirty = Dirty()
        self._odd: dict[str, str] = {}  # node -> its annotations that cannot be read, said once
        system = settings.system_namespace
        self.nodes: Table[NodeFact] = Table(self.dirty)
        self.jobs: Table[JobFact] = Table(self.dirty)
        self.job_pods: Table[JobPodFact] = Table(self.dirty)
        self.pods: dict[str, Table[PodFact]] = {name: Table(self.dirty) for name in settings.namespaces}
        self.reports = {name: ReportTable(self.dirty) for name in settings.namespaces}
        self.node_watch = self._reflect(NODES, self.read_node, self.nodes, f"{NAMES.managed_label}=true")
        self.reflectors: list[Reflector[Any]] = [
            self.node_watch,
            self._reflect(f"/apis/batch/v1/namespaces/{system}/jobs", job_fact, self.jobs, SUITE),
            self._reflect(f"/api/v1/namespaces/{system}/pods", job_pod_fact, self.job_pods, SUITE),
        ]
        for name in settings.namespaces:
            self.reflectors += [
                self._reflect(f"/api/v1/namespaces/{name}/pods", self.read_pod, self.pods[name]),
                self._reflect(f"/apis/{NAMES.prefix}/v1/namespaces/{name}/nodereports", report_fact, self.reports[name]),
            ]
        self._views: dict[str, NodeView] = {}
        self._shown: dict[str, NodeFact] = {}

    def _reflect(self, path: str, parse: Callable[[Object], F], table: Table[F], selector: str = "") -> Reflector[F]:
        query = {"labelSelector": selector} if selector else {}
        return Reflector(self._api, path, parse, table, query, self._settings.relist_seconds, self._measures.error)

    def read_pod(self, item: Object) -> PodFact:
        """The pod's facts; one line for a failure that counts for nothing, as the pod is forged or a variable is not known."""
        chosen = self._settings
        fact = pod_fact(item, chosen.gpu_resource, chosen.allowed_images, chosen.preflight_variables)
        before = self.pods[fact.view.namespace].get(fact.key)
        new = before is None or before.uid != fact.uid or before.view.verdict is None
        if new and not fact.view.trusted and fact.view.verdict is not None and is_bad(fact.view.verdict):
            self._measures.error("untrusted")
            LOG.warning("%s: its verdict counts for nothing: it did not run an allowed image's probes alone", plain(fact.key))
        return fact

    def read_node(self, item: Object) -> NodeFact:
        """The Node's facts; one line for annotations of ours that cannot be read, when they are new."""
        fact = node_fact(item, self._settings.gpu_resource)
        odd = ", ".join(unreadable(fact.annotations))
        if odd != self._odd.get(fact.key, ""):
            self._odd.pop(fact.key, None)
            if odd and len(self._odd) < MAX_ODD:
                self._odd[fact.key] = odd
                self._measures.error("unreadable")
                LOG.warning("%s: skipped, as it cannot be read: %s", plain(fact.key), odd)
        return fact

    @property
    def synced(self) -> bool:
        return all(r.synced.is_set() for r in self.reflectors)

    def refresh(self, names: set[str], now: float) -> dict[str, NodeView]:
        """All managed nodes' views, those in `names` made anew."""
        for name in names:
            fact = self.nodes.get(name)
            if fact is None:
                self._views.pop(name, None)
                self._shown.pop(name, None)
            else:
                self._shown[name], self._views[name] = fact, self._view(fact, now)
        return self._views

    def shown(self, name: str) -> NodeFact:
        """The Node as its view shows it. A write carries this version, so that it fails if anything changed since."""
        return self._shown[name]

    def _view(self, node: NodeFact, now: float) -> NodeView:
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

    def _reports(self, node: NodeFact, now: float) -> Iterator[Report]:
        """Those that still count, and those of which the record says what became of them."""
        made = bounded(report for table in self.reports.values() for report in table.of_node(node.key))
        judged = {d.report for d in node.record.dispositions} if node.record is not None else set()
        since = now - self._settings.policy.signal_window_seconds
        for report in sorted(made, key=lambda r: r.key):
            view = report.view
            # One from before the node was made is about a machine that had this name before.
            if view.at >= node.created_at and (view.at > since or f"report/{view.id}" in judged):
                yield view

    def _pods(self, node: NodeFact, now: float) -> Iterator[PodView]:
        ended: list[PodFact] = []
        for table in self.pods.values():
            for pod in sorted(table.of_node(node.key), key=lambda p: p.key):
                if not pod.finished:
                    yield lost(pod, now)
                elif self._is_news(pod, node, now):
                    ended.append(pod)
        # However many have ended: verdicts first, which exit codes must not hide, then the latest of every tenant.
        ended.sort(key=lambda p: -(p.view.ended_at or 0.0))
        seen: Counter[tuple[str, bool]] = Counter()
        ranked: list[tuple[bool, int, PodFact]] = []
        for pod in ended:
            silent = pod.view.verdict is None
            ranked.append((silent, seen[pod.view.namespace, silent], pod))
            seen[pod.view.namespace, silent] += 1
        ranked.sort(key=lambda r: r[:2])
        yield from (lost(pod, now) for _, _, pod in ranked[:MAX_SIGNALS])

    def _is_news(self, pod: PodFact, node: NodeFact, now: float) -> bool:
        """A finished pod holds no GPU. It is shown only until what it says about its node has been noted."""
        view, record = pod.view, node.record
        ended = view.ended_at or (view.verdict.finished_at if view.verdict else 0.0) or view.created_at
        if ended < node.created_at or now - ended > self._settings.policy.signal_window_seconds:
            return False
        noted = {s.key for s in record.signals} if record is not None else set()
        says = {NAMES.exit_suspect: "exit", NAMES.exit_hang: "hang"}.get(view.exit_code or 0, "")
        news = bool(says) and f"{says}/{view.uid}" not in noted
        news |= view.at_gate and view.verdict is not None and f"pod/{view.uid}" not in noted
        return news and ended > (record.ignore_before if record is not None else 0.0)

    def _jobs(self, node: NodeFact) -> Iterator[JobView]:
        pods = {pod.job: pod for pod in sorted(self.job_pods.of_node(node.key), key=lambda p: p.version)}
        for job in sorted(self.jobs.of_node(node.key), key=lambda j: j.view.attempt):
            pod = pods.get(job.view.name)
            if job.machine not in ("", node.uid):  # of the machine that had this name before: no attempt of ours
                yield replace(job.view, attempt=EARLIER)
                continue
            if pod is not None and pod.finished_at is not None:
                yield replace(job.view, verdict=pod.verdict, finished_at=pod.finished_at)
            else:
                yield replace(job.view, address=pod.address) if pod is not None and pod.address else job.view

    def settle_jobs(self, node: str) -> None:
        """The Jobs' watch may be ahead of their pods': before a finished Job counts as silent, its pods are asked for."""
        heard = {pod.job for pod in self.job_pods.of_node(node) if pod.finished_at is not None}
        for job in self.jobs.of_node(node):
            if job.view.finished_at is not None and job.view.name not in heard and not job.view.deleting:
                path = f"/api/v1/namespaces/{self._settings.system_namespace}/pods"
                for item in self._api.items(path, {"labelSelector": f"batch.kubernetes.io/job-name={job.view.name}"}):
                    self.job_pods.put(job_pod_fact(item))
