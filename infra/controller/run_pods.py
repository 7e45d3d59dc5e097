"""What the pods of runs cost before they work, and how many of them are to be scraped: metrics made from the watched pods."""

from __future__ import annotations

from collections.abc import Iterable

from lehr.infra.controller.metrics import ControllerMetrics, Run
from lehr.infra.controller.objects import PodObject
from lehr.monitoring.metrics import Fleet


class RunPods:
    """Shows pods by run, and observes each preflight once. Only the replica that leads calls it, else each would count."""

    def __init__(self, metrics: ControllerMetrics) -> None:
        self._metrics = metrics
        self._since: float | None = None  # earlier preflights were observed by whoever led then
        self._observed: set[str] = set()

    def show(self, pods: Iterable[PodObject], now: float) -> None:
        """`now`: Unix time. What ended before the first call is not observed."""
        since = self._since = now if self._since is None else self._since
        runs: dict[str, Run] = {}
        seen: set[str] = set()
        for pod in pods:
            if pod.run:
                self._add(runs.setdefault(pod.run, Run()), pod, now)
            if pod.preflight[1] > since:
                seen.add(pod.uid)
                if pod.uid not in self._observed:
                    self._observe(pod)
        self._observed = seen
        self._metrics.show_runs(runs)

    def lost(self) -> None:
        """Another replica leads."""
        self._since, self._observed = None, set()

    def _add(self, run: Run, pod: PodObject, now: float) -> None:
        began, ended = pod.preflight
        if began:
            # One that was ended in the middle, with its pod, has no end of its own.
            run.preflight_seconds += max(0.0, (ended or pod.view.ended_at or (began if pod.finished else now)) - began)
        run.pods += not pod.finished
        run.serving += pod.serves and not pod.finished

    def _observe(self, pod: PodObject) -> None:
        verdict = pod.view.verdict
        outcome = verdict.outcome.value if verdict is not None else "none"
        self._metrics.observe(Fleet.PREFLIGHT, pod.preflight[1] - pod.preflight[0], outcome=outcome)
