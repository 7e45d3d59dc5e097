"""One watched run: its folder, its exporter, or both, looked at again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lehr.monitoring.live_view import Progress
from lehr.monitoring.metrics import Metric
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.evaluate import Moment, Value, evaluate
from lehr.monitoring.panels.forms import now as last
from lehr.monitoring.panels.history import History
from lehr.monitoring.watch import endpoint
from lehr.monitoring.watch.asked import Asked
from lehr.monitoring.watch.folder import Facts, RunFolder, Stage
from lehr.monitoring.watch.lines import Key, Lines
from lehr.monitoring.watch.log_tail import LogTail
from lehr.monitoring.watch.replay import Replay
from lehr.monitoring.watch.results import results
from lehr.monitoring.watch.scrape import KEEP_SECONDS, Scraper
from lehr.monitoring.watch.shown import Place, Shown
from lehr.runtime.text import visible

# What the list of stages needs, beside what panels ask for.
_OF_STAGES = (m.STAGE_PLANNED, m.STAGE_DONE, m.STAGE_SECONDS, m.STAGE_REUSED, m.TRAIN_STEP, m.TRAIN_HEARTBEAT, m.RUN_INFO)
_NAME = 160


class WatchedRun:
    """`look` reads what is new into `lines`; `shown` says the rest."""

    def __init__(self, number: int, where: Path | str, shown: Shown, lines: Lines) -> None:
        self.number, self._shown, self._lines = number, shown, lines
        self.url = where if isinstance(where, str) else ""
        self.folder = None if isinstance(where, str) else RunFolder(where)
        self.scraper = Scraper({*shown.names, *(metric.name for metric in _OF_STAGES)})
        self.live = False  # whether the last look at the exporter succeeded
        self._logs: dict[str, tuple[LogTail, Replay]] = {}
        self._progress: Progress | None = None
        self._facts, self._facts_at = results(Facts()), 0
        self._about = self._summary(0.0)

    def look(self, clock: Callable[[], float], interval: float) -> None:
        """Read the folder's news, and ask the exporter."""
        if self.folder is not None and self.folder.there:
            if self.folder.look():
                self._facts, self._facts_at = results(self.folder.facts), self._lines.mark()
            self._about = self._summary(clock())  # the page can say that much while long logs are read
            self._read_logs(self.folder)
        self._ask(clock(), interval)
        self._about = self._summary(clock())

    # -- logs

    def _read_logs(self, folder: RunFolder) -> None:
        after = 0.0
        for stage in folder.stages.values():
            if stage.log is None:
                continue
            tail, replay = self._logs.get(stage.name) or (LogTail(stage.log), Replay(folder.name, stage.name))
            if (
                tail.path != stage.log
            ):  # of a stage that has ended it is a copy elsewhere, which may even have the old one's inode
                tail = LogTail(stage.log)
            anew, moments, end = tail.read()
            if anew:
                replay = Replay(folder.name, stage.name)
                self._lines.remove(self.number, self._shown.logged, stage.name)
            self._logs[stage.name] = tail, replay
            for asked, step, whole in replay.add(moments, end, after):
                self._draw(self._shown.logged if whole else self._shown.gauges, replay.history, asked, {stage.name: step})
            after = replay.at

    # -- the exporter

    def _ask(self, now: float, interval: float) -> None:
        url = self.url
        if self.folder is not None:
            found = endpoint.find(self.folder.folder)
            url = found.url if found else ""
        if not url:
            self.live = False
            self.scraper.gone(now, "")
            return
        self.live = self.scraper.look(url, now)
        if not self.live:
            return
        now = self.scraper.seen
        asked = Asked(now, max(4 * interval, 15.0), KEEP_SECONDS, since=self.scraper.first)
        steps = {one.labels["stage"]: one.value for one in self._values(m.TRAIN_STEP, now)}
        self._draw(self._shown.series, self.scraper.history, asked, steps, live=True)
        self._track(now)

    def _draw(
        self, places: Iterable[Place], samples: History, asked: Asked, steps: dict[str, float], *, live: bool = False
    ) -> None:
        """A point for each value that these series have at this moment. Where a stage's log says it too, the log does."""
        answers: dict[str, list[Value]] = {}
        for place in places:
            series, written = self._shown.series[place], self._shown.written[place]
            if written not in answers:
                answers[written] = evaluate(series.query, samples, asked)
            for one in answers[written]:
                stage = one.labels.get("stage")
                if live and stage in self._logs and place in self._shown.logged:
                    continue
                labels = tuple(sorted((name, visible(value)[:_NAME]) for name, value in one.labels.items()))
                name = visible(series.named(one.labels))[:_NAME]
                step = steps.get(stage) if stage is not None else None
                self._lines.add(Key(*place, self.number, labels), name, asked.at, step, one.value)

    def _values(self, metric: Metric, now: float) -> list[Value]:
        return evaluate(last(metric), self.scraper.history, Moment(now))

    def _by_stage(self, metric: Metric, now: float) -> dict[str, float]:
        return {one.labels["stage"]: one.value for one in self._values(metric, now)}

    def _track(self, now: float) -> None:
        """Where the current stage is: the one that reported last, and is not over."""
        done, planned = self._by_stage(m.STAGE_DONE, now), self._by_stage(m.STAGE_PLANNED, now)
        beats, over = self._by_stage(m.TRAIN_HEARTBEAT, now), self._by_stage(m.STAGE_SECONDS, now)
        going = [name for name in sorted(beats, key=lambda name: beats[name]) if name not in over and name in planned]
        if not going:
            self._progress = None
            return
        stage = going[-1]
        if self._progress is None or self._progress.stage != stage:
            self._progress = Progress(stage, int(planned[stage]), now)
        self._progress.total_steps, self._progress.step = int(planned[stage]), int(done.get(stage, 0.0))
        reports = self._progress.recent
        if not reports or reports[-1][1] != self._progress.step:
            reports.append((now, self._progress.step))

    # -- what the page is told

    def shown(self, since: int) -> dict[str, Any]:
        """The run as the page has it; scores, conversations and documents only where they are new."""
        return {**self._about, **({"facts": self._facts} if self._facts_at > since or not since else {})}

    def _summary(self, now: float) -> dict[str, Any]:
        state, note = self._state()
        return {
            "number": self.number,
            "name": self._name(),
            "place": visible(self.url or str(self.folder.folder if self.folder else ""))[:_NAME],
            "state": state,
            "note": note,
            "live": self.live,
            "stages": [self._stage(stage, now) for stage in self._stages(now)],
        }

    def _name(self) -> str:
        if self.folder is not None:
            return visible(self.folder.folder.resolve().name)[:_NAME]
        found = list(self.scraper.history.named(m.RUN_INFO.name))
        return visible(found[-1][0].get("name", ""))[:_NAME] if found else visible(self.url)[:_NAME]

    def _state(self) -> tuple[str, str]:
        """In words, and what is to be said of it."""
        if self.live:
            return "at work", ""
        silent = self.scraper.error and f"its exporter does not answer: {self.scraper.error}"
        if self.folder is None:
            return ("gone" if self.scraper.seen else "not there yet"), silent or "it has not been asked yet"
        if not self.folder.there:
            return "not there yet", "no run has begun in this folder; it appears here when one does"
        if self.folder.at_work:
            return "at work", silent or "live values come once it serves its metrics"
        if self.folder.finished:
            return "finished", ""
        return "stopped", self.folder.recipe_error or "the same `lehr run` goes on where it stood"

    def _stages(self, now: float) -> list[Stage]:
        if self.folder is not None:
            return list(self.folder.stages.values())
        over, planned = self._by_stage(m.STAGE_SECONDS, now), self._by_stage(m.STAGE_PLANNED, now)
        names = list(dict.fromkeys([*over, *planned]))
        return [Stage(name, "done" if name in over else "at work", seconds=over.get(name, 0.0)) for name in names]

    def _stage(self, stage: Stage, now: float) -> dict[str, Any]:
        current = self._progress if self.live and self._progress and self._progress.stage == stage.name else None
        log = self._logs.get(stage.name)
        state = "at work" if current and stage.state != "done" else stage.state
        return {
            "name": visible(stage.name)[:_NAME],
            "state": state,
            "trains": stage.log is not None,
            "done": current.step if current else None,
            "planned": current.total_steps if current else None,
            "left": current.seconds_left(now) if current else None,
            "seconds": stage.seconds or (log[1].seconds if log else 0.0),
            "tokens": stage.tokens,
            "joules": stage.joules,
        }
