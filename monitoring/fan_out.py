"""One tracker that forwards to many. A tracker that fails is removed, with one warning, and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from lehr.runtime.ports import Tracker
from lehr.runtime.redaction import masked

LOG = logging.getLogger("lehr.monitoring")


class FanOut:
    """Passes every event to every tracker. A tracker that raises is disabled with one warning."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def _notify(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 - no error of a tracker may stop the run
                self.trackers.remove(tracker)
                LOG.warning("%s failed and is off for the rest of this run: %s", type(tracker).__name__, _brief(error))

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        self._notify(lambda t: t.stage_started(stage, total_steps=total_steps, params=params))

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self._notify(lambda t: t.progress(stage, step, total_steps, metrics))

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._notify(lambda t: t.evaluated(stage, step, metrics))

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        self._notify(lambda t: t.stage_finished(stage, uri=uri, reused=reused, seconds=seconds))

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        self._notify(lambda t: t.scored(stage, records))

    def note(self, text: str) -> None:
        self._notify(lambda t: t.note(text))

    def close(self, *, failed: bool | None = False) -> None:
        """Close every tracker that has `close`; `failed`: the run ended with an error; None: it goes on elsewhere."""

        def close_one(tracker: Tracker) -> None:
            close = getattr(tracker, "close", None)
            if close is not None:
                close(failed=failed)

        self._notify(close_one)

    def __enter__(self) -> FanOut:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(failed=kind is not None)


def _brief(error: BaseException) -> str:
    """The error's type and first line: a whole traceback would bury the run's own output."""
    lines = masked(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
