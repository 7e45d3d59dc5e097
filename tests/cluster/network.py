"""The way between the nodes: it answers both sides of a pair test, from what is truly broken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lehr.infra.controller.objects import ATTEMPT, NODE, ROLE
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import Outcome, Verdict
from lehr.infra.kube.api import Object
from tests.cluster.statuses import ended, running

ADDRESS = "10.20.30.40"


@dataclass
class Network:
    """`ports` are broken nodes, `links` broken pairs. `tests` is what was tested, in order: (node, node, passed)."""

    ports: set[str] = field(default_factory=set)
    links: set[frozenset[str]] = field(default_factory=set)
    tests: list[tuple[str, str, bool]] = field(default_factory=list)
    _waiting: dict[tuple[str, str], Object] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, status: Callable[..., None], pod: Object) -> None:
        """A pod of a pair test has started. The listener runs, with an address; the connecting side ends both."""
        notes = pod["metadata"]["annotations"]
        key = (notes[NODE], notes[ATTEMPT])
        if notes[ROLE] == "listen":
            with self._lock:
                self._waiting[key] = pod
            status(pod, "Running", [], [running(NAMES.preflight_container)], ADDRESS)
            return
        with self._lock:
            listener = self._waiting.pop(key)
        given = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
        assert given["LEHR_PAIR_ADDRESS"] == ADDRESS, given
        pair = {listener["spec"]["nodeName"], pod["spec"]["nodeName"]}
        passed = not pair & self.ports and frozenset(pair) not in self.links
        self.tests.append((*sorted(pair), passed))  # type: ignore[arg-type]
        message = encode(verdict(passed))
        for side in (listener, pod):
            status(side, "Succeeded", [], [ended(NAMES.preflight_container, message)])


def verdict(passed: bool) -> Verdict:
    if passed:
        return Verdict(Outcome.PASS, "1", finished_at=time.time())
    return Verdict(Outcome.HARDWARE_FAILURE, "1", "pair", "PairFailed", "no sum", confirmed=True, finished_at=time.time())
