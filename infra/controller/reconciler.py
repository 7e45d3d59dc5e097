"""The controller's rounds: whatever changed is decided anew, from the present state of the cluster and nothing else.

Level-triggered: an event only names a node to look at. A controller that dies at any point can be continued by the next one,
because every step that matters is written to the Node before the step that depends on it.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable

from lehr.infra.controller.events import EventSender
from lehr.infra.controller.executor import Executor, NotLeading
from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.parsers import closed_breakers
from lehr.infra.controller.run_pods import RunPods
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import State
from lehr.infra.fleet import decision_log
from lehr.infra.fleet.actions import Action
from lehr.infra.fleet.breaker import statuses
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.summary import fleet_after, fleet_view
from lehr.infra.fleet.views import NodeView
from lehr.infra.kube.api import Api, ApiError
from lehr.infra.kube.lease import Election
from lehr.infra.kube.transport import Transport
from lehr.monitoring.metrics import Fleet
from lehr.runtime.errors import Bug, InfraError

LOG = logging.getLogger("lehr.infra.controller")
BACKOFF_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 30.0
STALE = (404, 409, 410, 422)  # the object changed or is gone: read it again at once
IDLE_SECONDS = 0.5


class Controller:
    """`log` receives the lines of the decision log. `clock` is Unix time; leases and waits use the monotonic clock."""

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        log: Callable[[str], None] = lambda line: None,
        metrics: ControllerMetrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self._log, self._clock = settings, log, clock
        self.metrics = metrics or ControllerMetrics()
        self.identity = settings.identity or f"{socket.gethostname()}-{os.getpid()}"
        api = Api(transport, self.metrics.request)
        self.state = State(api, settings, self.metrics)
        self._events = EventSender(api, self.metrics, self.identity, settings.webhook_url)
        self.election = Election(api, settings.election, self.identity, self._won)
        self._executor = Executor(api, self.state, settings, self.metrics, self._events, lambda: self.election.leading, clock)
        self._stop = threading.Event()
        self._run_pods, self._led = RunPods(self.metrics), False
        self._resync_at = 0.0
        self._not_before: dict[str, tuple[float, float]] = {}  # node -> (monotonic time, last wait): backoff after errors
        self._pause_until = 0.0
        self._logged: dict[str, tuple[str, ...]] = {}

    # -- life

    def run(self) -> None:
        """Run until `stop`. Never raises because of a server, a network or an object; raises Bug if a thread of ours died."""
        for reflector in self.state.reflectors:
            reflector.start()
        if not self.settings.dry_run:
            self.election.start()
        try:
            while not self._stop.is_set():
                self._check_threads()
                self._wait_and_round()
        finally:
            self._close()

    def stop(self) -> None:
        self._stop.set()
        self.state.dirty.add({"."})  # ends the loop's wait; no node has this name

    def _close(self) -> None:
        for reflector in self.state.reflectors:
            reflector.stop()
        self.election.stop()
        self._events.close()
        for reflector in self.state.reflectors:
            reflector.join(2.0)

    def _won(self) -> None:
        """Called when this replica becomes leader. It must see all that the other one did before its first decision, because
        breakers count those cordons."""
        self.state.node_watch.relist()
        self._resync_at = 0.0
        self.state.dirty.add({"."})

    # -- rounds

    def _check_threads(self) -> None:
        """Raises Bug if a watch or the election has died: otherwise a controller would lead without seeing anything."""
        watching = all(reflector.alive for reflector in self.state.reflectors)
        if not watching or not (self.settings.dry_run or self.election.alive):
            raise Bug("a watch or the election ended by itself; see the error above")

    def _wait_and_round(self) -> None:
        names = self.state.dirty.take(IDLE_SECONDS)
        leads = self.settings.dry_run or self.election.leading
        self.metrics.set(Fleet.LEADER, float(leads))
        if self._led and not leads:
            self.metrics.hide()
            self._run_pods.lost()
        self._led = leads
        if not leads or not self.state.synced:
            self.state.dirty.add(names)
            self._stop.wait(0.05)
            return
        now = time.monotonic()
        if now >= self._resync_at:
            self._resync_at = now + self.settings.resync_seconds
            names |= {fact.key for fact in self.state.nodes.all()}
            resync = True
        else:
            resync = False
            names |= {name for name, (due, _) in self._not_before.items() if due <= now}
        if now < self._pause_until:
            self.state.dirty.add(names)
            self._stop.wait(min(0.1, self._pause_until - now))
            return
        if names:
            self.round(names, resync=resync)

    def round(self, names: set[str], *, resync: bool = False) -> None:
        """Decide for the nodes in `names` and carry out the actions."""
        began, now = time.monotonic(), self._clock()
        for name in names:
            self._settle_jobs(name)
            if self.state.nodes.get(name) is None:
                self._not_before.pop(name, None)
        views = self.state.refresh(names, now)
        fleet = fleet_view(views.values(), self.settings.policy, now, closed_breakers(self.election.annotations))
        for name in sorted(names & views.keys()):
            if self._stop.is_set():
                return
            due = self._not_before.get(name)
            if due is None or due[0] <= time.monotonic():
                fleet = self._node(views[name], fleet, now)
        if resync:
            self.metrics.show(views.values(), statuses(fleet, self.settings.policy, now), now)
            self._run_pods.show(self.state.all_pods(), now)
        self.metrics.observe(Fleet.RECONCILE, time.monotonic() - began)

    def _settle_jobs(self, name: str) -> None:
        try:
            self.state.settle_jobs(name)
        except (InfraError, OSError, LookupError) as error:
            self._retry_later(name, error)

    def _node(self, view: NodeView, fleet: FleetView, now: float) -> FleetView:
        """Decide for one node and act. Returns the fleet as the round's next decision must see it."""
        fact = self.state.shown(view.name)
        actions: list[Action] = []
        try:
            actions = decide(view, fleet, self.settings.policy, now)
            self._write_log(view, fleet, actions, now)
            if self.settings.dry_run:
                return fleet_after(fleet, view, actions)
            self._executor.carry_out(view, fact, actions)
            if not actions:
                self._executor.tidy(fact)
        except NotLeading:
            self.state.dirty.add({view.name})
            return fleet_after(fleet, view, actions)
        except Exception as error:  # noqa: BLE001 - an error with one node, of whatever kind, must not stop the others' care
            self._retry_later(view.name, error)
            # The action may have been applied nevertheless: the breakers of this round count it.
            return fleet_after(fleet, view, actions)
        self._not_before.pop(view.name, None)
        return fleet_after(fleet, view, actions)

    def _write_log(self, view: NodeView, fleet: FleetView, actions: list[Action], now: float) -> None:
        kinds = tuple(action.kind for action in actions)
        again = self.settings.dry_run and self._logged.get(view.name, ()) == kinds
        if self.settings.dry_run:
            self._logged[view.name] = kinds
        if actions and not again:
            try:
                self._log(decision_log.line(now, view, fleet, actions))
            except (OSError, ValueError) as error:  # a full disk must not keep bad nodes in service
                self.metrics.error("decision-log")
                LOG.warning("%s: not in the decision log: %s", view.name, error)

    def _retry_later(self, name: str, error: Exception) -> None:
        """Decide for the node again: at once after a conflict, otherwise after an exponentially growing wait with jitter."""
        status = error.status if isinstance(error, ApiError) else 0
        before = self._not_before.get(name, (0.0, 0.0))[1]
        wait = min(max(BACKOFF_SECONDS, 2 * before), BACKOFF_MAX_SECONDS)
        self._not_before[name] = (time.monotonic() + random.uniform(wait / 2, wait), wait)
        known = isinstance(error, InfraError | OSError | LookupError)
        self.metrics.error(str(status) if status else "connection" if known else "bug")
        level = logging.INFO if status in STALE else logging.WARNING if known else logging.ERROR
        LOG.log(level, "%s: %s; again in %.2f s", name, error, wait, exc_info=None if known else error)
        # 429: the API server is overloaded and asks all clients to slow down, so all nodes wait.
        if status == 429 and isinstance(error, ApiError):
            self._pause_until = time.monotonic() + min(error.retry_after or 1.0, BACKOFF_MAX_SECONDS)
        if status in STALE:
            self._look_again(name)

    def _look_again(self, name: str) -> None:
        fact = self.state.nodes.get(name)
        if fact is not None:
            try:
                self._executor.read_back(fact)
            except (InfraError, OSError, LookupError) as error:
                LOG.info("%s: %s", name, error)
