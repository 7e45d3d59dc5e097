"""Leader election with a Lease. Only the holder writes; the other replica keeps its cache up to date and can take over.

Other machines' times are never compared with ours: a holder counts as gone when its Lease has not changed for the Lease's
duration by our own monotonic clock. A holder stops writing after two thirds of that time without a renewal, so that both never
write at once if clocks run at about the same speed; remaining races are caught by resourceVersions and uids.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lehr.infra.kube.api import Api, ApiError, Object
from lehr.runtime.errors import InfraError

LOG = logging.getLogger("lehr.infra.kube")
NOT_FOUND = 404
SAFE = 2 / 3


@dataclass(frozen=True)
class LeaseSettings:
    """Which Lease, how long it lasts without a renewal, and how often it is renewed."""

    name: str
    namespace: str
    lease_seconds: float
    renew_seconds: float


class Election:
    """`on_won` is called on the election's thread whenever this replica becomes the holder."""

    def __init__(self, api: Api, lease: LeaseSettings, identity: str, on_won: Callable[[], None]) -> None:
        self._api, self._identity, self._name, self._on_won = api, identity, lease.name, on_won
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{lease.namespace}/leases"
        self._lease_seconds, self._renew_seconds = lease.lease_seconds, lease.renew_seconds
        self._renewed_at = float("-inf")
        self._seen_version, self._seen_at = "", 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.annotations: Mapping[str, str] = {}  # of the Lease, as last read
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, release: bool = True) -> None:
        """End the election. With `release` the other replica can take over at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        if release and self.leading:
            try:
                self._give_up()
            except (InfraError, OSError) as error:
                LOG.warning("the Lease could not be released: %s", error)
        self._renewed_at = float("-inf")

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def leading(self) -> bool:
        return time.monotonic() - self._renewed_at < self._lease_seconds * SAFE

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.try_once()
            except (InfraError, OSError, LookupError) as error:
                LOG.warning("Lease %s: %s", self._name, error)
            self._stop.wait(self._renew_seconds)

    def try_once(self) -> None:
        """Take or renew the Lease if it is free, expired or ours. Raises InfraError."""
        # Before the request: the renewal counts from when it was asked for, so that a slow answer cannot prolong it.
        asked = time.monotonic()
        try:
            lease = self._api.get(f"{self._path}/{self._name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            LOG.warning("Lease %s is missing; the chart creates it, so no permission to create Leases is needed", self._name)
            return
        self.annotations = lease["metadata"].get("annotations") or {}
        spec = lease.get("spec") or {}
        holder, version = spec.get("holderIdentity") or "", str(lease["metadata"]["resourceVersion"])
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, asked
        if holder and holder != self._identity and asked - self._seen_at < self._lease_seconds:
            self._renewed_at = float("-inf")
            return
        won = holder != self._identity or not self.leading
        lease["spec"] = self._spec(spec, taken=holder != self._identity)
        try:
            stored = self._api.replace(f"{self._path}/{self._name}", lease)
        except ApiError as error:
            if error.status != 409:  # 409: the other replica wrote it first
                raise
            return
        self._seen_version, self._seen_at = str(stored["metadata"]["resourceVersion"]), asked
        # on_won first: nothing may be written before the caches are listed again.
        if won and not self._stop.is_set():
            LOG.info("%s leads", self._identity)
            self._on_won()
        self._renewed_at = asked

    def _spec(self, before: Object, *, taken: bool) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {**before, "holderIdentity": self._identity, "renewTime": now}
        spec["leaseDurationSeconds"] = max(1, round(self._lease_seconds))
        if taken:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + 1
        return spec

    def _give_up(self) -> None:
        lease = self._api.get(f"{self._path}/{self._name}")
        if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            self._api.replace(f"{self._path}/{self._name}", lease)
