"""What the controller reports to people: Events on the Node, and a webhook with the evidence. Neither may delay or fail an
action: each has a queue and a thread of its own."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any

import urllib3

from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import NodeObject
from lehr.infra.fleet.serialization import to_data
from lehr.infra.kube.api import Api, Object
from lehr.monitoring.metrics import Fleet
from lehr.runtime.errors import InfraError

LOG = logging.getLogger("lehr.infra.controller")
EVENTS_NAMESPACE = "default"  # where Kubernetes puts Events about Nodes, which have no namespace
WARNINGS = ("NodeQuarantined", "NodeSuspected", "PreflightFailed", "QuarantineBlocked", "RevalidationFailed", "RepairNeeded",
            "BreakerOpened", "HumanOverride")  # fmt: skip
EVENT_SECONDS, EVENT_BURST, EVENT_RATE = 2.0, 50.0, 5.0
WEBHOOK_TRIES, WEBHOOK_SECONDS, QUEUE = 3, 5.0, 1000


class EventSender:
    """Events at a bounded rate (a burst of 50, then 5 a second; the rest is dropped and counted) and webhook calls."""

    def __init__(self, api: Api, metrics: ControllerMetrics, identity: str, webhook_url: str = "") -> None:
        self._api, self._metrics, self._identity, self._url = api, metrics, identity, webhook_url
        self._tokens, self._filled_at = EVENT_BURST, time.monotonic()
        self._events: queue.Queue[Object | None] = queue.Queue(QUEUE)
        self._calls: queue.Queue[Object | None] = queue.Queue(QUEUE)
        self._sender = threading.Thread(target=self._send_events, name="events", daemon=True)
        self._sender.start()
        self._http = urllib3.PoolManager(maxsize=1, retries=False)
        if webhook_url:
            threading.Thread(target=self._call_webhook, name="webhook", daemon=True).start()

    def event(self, node: NodeObject, reason: str, message: str, now: float) -> None:
        """Queue an Event about `node`. A failure is only logged and counted."""
        if not reason or not self._may_send():
            return
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            # generateName is cut so that the name stays within Kubernetes' limit of 253 characters.
            "metadata": {"generateName": f"{node.key[:200]}.", "namespace": EVENTS_NAMESPACE},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node.key, "uid": node.uid},
            "reason": reason,
            "message": message[:1000] or reason,
            "type": "Warning" if reason in WARNINGS else "Normal",
            "source": {"component": "lehr-controller"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "reportingComponent": "lehr-controller",
            "reportingInstance": self._identity[:128],
        }
        try:
            self._events.put_nowait(body)
        except queue.Full:
            self._metrics.error("event-dropped")

    def _send_events(self) -> None:
        while (body := self._events.get()) is not None:
            try:
                self._api.create(f"/api/v1/namespaces/{EVENTS_NAMESPACE}/events", body, EVENT_SECONDS)
            except (InfraError, OSError, ValueError) as error:
                self._metrics.error("event")
                LOG.warning("no event %s for %s: %s", body["reason"], body["involvedObject"]["name"], error)

    def _may_send(self) -> bool:
        now = time.monotonic()
        # A token bucket: a fault of a whole rack must not flood the API server with Events.
        self._tokens = min(EVENT_BURST, self._tokens + (now - self._filled_at) * EVENT_RATE)
        self._filled_at = now
        if self._tokens < 1:
            self._metrics.error("event-dropped")
            return False
        self._tokens -= 1
        return True

    def webhook(self, kind: str, node: str, evidence: Any, now: float) -> None:
        """Queue a call. `evidence` is any record; after a restart of the controller receivers may see an `id` twice."""
        if not self._url:
            return
        at = datetime.fromtimestamp(now, UTC).isoformat()
        body = {"v": 1, "id": f"{kind}/{node}/{now:.0f}", "kind": kind, "node": node, "at": at, "evidence": to_data(evidence)}
        try:
            self._calls.put_nowait(body)
        except queue.Full:
            self._metrics.count(Fleet.WEBHOOKS, outcome="dropped")

    def close(self) -> None:
        """End the threads after what is queued; wait a moment for the Events, which take milliseconds each."""
        for calls in (self._events, *([self._calls] if self._url else [])):
            try:
                calls.put_nowait(None)
            except queue.Full:
                LOG.warning("a queue of events is full at the end")
        self._sender.join(EVENT_SECONDS)

    def _call_webhook(self) -> None:
        while (body := self._calls.get()) is not None:
            self._metrics.count(Fleet.WEBHOOKS, outcome="delivered" if self._deliver(body) else "failed")

    def _deliver(self, body: Object) -> bool:
        headers = {"Content-Type": "application/json", "User-Agent": "lehr"}
        for attempt in range(WEBHOOK_TRIES):
            try:
                # redirect=False: the evidence must not go to an address that the configuration does not name.
                answer = self._http.request(
                    "POST", self._url, body=json.dumps(body).encode(), headers=headers, timeout=WEBHOOK_SECONDS, redirect=False
                )
                if answer.status < 300:
                    return True
                LOG.warning("webhook: status %s for %s", answer.status, body["id"])
            except urllib3.exceptions.HTTPError as error:
                LOG.warning("webhook: %s", " ".join(str(error).split())[:200])
            if attempt + 1 < WEBHOOK_TRIES:
                time.sleep(2.0**attempt)
        return False
