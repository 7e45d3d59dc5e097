"""The terminal: a live display for people, plain lines for pipes and log files."""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TextIO

from rich.console import RenderableType
from rich.live import Live

from lehr.monitoring.live_view import Progress, RunState, live_view
from lehr.monitoring.score_table import score_tables
from lehr.monitoring.screen import Screen
from lehr.report import format as fmt
from lehr.runtime.metrics import metric

PLAIN_SECONDS = 10.0
_REFRESHES_PER_SECOND = 4


class ConsoleTracker:
    """The Tracker port on standard output: rich's live display on a terminal, else one plain line every ten seconds.

    `stages` are the recipe's stages in order, shown as a list; others are appended as they come. Without a terminal no
    escape sequence is written, and a reader that closes the pipe (`| head`) ends the output, not the run.
    """

    def __init__(
        self,
        stages: Sequence[str] = (),
        *,
        title: str = "",
        stream: TextIO | None = None,
        live: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`live` overrides the choice made from `stream` (standard output by default)."""
        self._stream = stream or sys.stdout
        wanted = _is_terminal(self._stream) if live is None else live
        self._state = RunState(title, list(stages))
        self._lock = threading.RLock()
        self._now, self._printed_at, self._broken, self._closed = now, -PLAIN_SECONDS, False, False
        self._records: list[dict[str, object]] = []
        self._console = Screen(file=self._stream, force_terminal=wanted)
        self._live = self._start_live() if wanted else None

    def _start_live(self) -> Live:
        live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            vertical_overflow="ellipsis",
        )
        live.start()
        atexit.register(live.stop)  # after an uncaught error too, the terminal must get its cursor back
        return live

    def _render(self) -> RenderableType:
        with self._lock:
            return live_view(self._state, self._now(), self._console.height)

    # -- the Tracker port

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        with self._lock:
            self._state.start(stage, total_steps, self._now())
        self._line(f"{stage}: started" + (f", {total_steps:,} step{'s' * (total_steps > 1)}" if total_steps else ""))
        self._printed_at = self._now()

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            current = self._state.advance(stage, step, total_steps, metrics, self._now())
        if self._live is None and self._now() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = self._now()
            self._line(_progress_line(current, self._now()))

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        return None

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        with self._lock:
            self._state.finish(stage, reused, seconds)
        if not reused:  # reused stages are reported together, in one line, by the code that found them
            self._line(f"{stage}: done in {fmt.duration(seconds)}")

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        with self._lock:
            self._records += [{**record, "stage": record.get("stage", stage)} for record in records]
            self._state.scored(stage, records)
        names = [f"{r.get('task')} {_scored(r)}" for r in records if r.get("split") == "held_out"]
        if names:
            self._line(f"{stage}: scores (held out): " + ", ".join(names))

    def note(self, text: str) -> None:
        with self._lock:
            self._state.add_note(text)
        self._line(text)

    # -- beyond the port

    def close(self, *, failed: bool | None = False) -> None:
        """Leave the display as it is and print the score table below it."""
        if self._closed:
            return
        self._closed = True
        width = self._console.width if self._live else 110
        if self._live is not None:
            self._live.stop()
        if self._records:
            self._write(lambda: self._print_scores(width))

    def _print_scores(self, width: int) -> None:
        live = self._live is not None
        buffer = io.StringIO()  # written in one piece, so that a closed pipe cannot cut the table in the middle
        console = Screen(
            file=buffer, width=width, force_terminal=live, color_system="auto" if live else None, no_color=not live
        )
        for table in score_tables(self._records, width, self._state.stages):
            console.print(table)
        self._stream.write(self._fit(buffer.getvalue()))
        self._stream.flush()

    def _line(self, text: str) -> None:
        """Print one plain line with the time of day; nothing with a live display, which shows the same."""
        if self._live is None:
            stamp = datetime.now().strftime("%H:%M:%S")
            clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
            self._write(lambda: print(self._fit(f"{stamp}  {clean}"), file=self._stream, flush=True))

    def _fit(self, text: str) -> str:
        """`text` with question marks for characters that the stream's encoding lacks: better than losing the line."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def _write(self, write: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            write()
        except (OSError, ValueError):  # the reader closed the pipe, or the stream is closed
            self._broken = True
            if self._stream is sys.stdout:  # so that the interpreter's flush at exit does not fail too
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a screen that can move its cursor and draw a bar: no pipe, file, TERM=dumb or plain ASCII."""
    capable = os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown")
    return stream.isatty() and capable and (stream.encoding or "").lower().replace("-", "") == "utf8"


def _progress_line(p: Progress, now: float) -> str:
    parts = [f"{p.stage}: step {p.step:,}/{p.total_steps:,}" if p.total_steps else f"{p.stage}: step {p.step:,}"]
    parts += [f"{name} {value}" for name, value in p.shown_metrics()]
    left = p.seconds_left(now)
    if left is not None:
        parts.append(f"{fmt.clock(left)} left")
    return ", ".join(parts)


def _scored(record: Mapping[str, object]) -> str:
    """`exact match 75.0 %`."""
    m, value = metric(str(record.get("metric"))), record.get("value")
    return f"{m.short or m.title} {fmt.with_unit(value, m) if isinstance(value, int | float) else value}"
