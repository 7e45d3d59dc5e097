"""The terminal: a screen gets a display, a pipe gets plain lines, and neither can stop a run."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from lehr.monitoring.console import ConsoleTracker
from lehr.monitoring.fan_out import FanOut
from lehr.monitoring.live_view import Progress, RunState, live_view
from lehr.monitoring.score_table import score_table, score_tables
from lehr.runtime.ports import NullTracker

RUN = """
import sys
from lehr.monitoring.console import ConsoleTracker
tracker = ConsoleTracker(["documents", "stage1", "soup"], title="tiny")
tracker.note("metrics at http://127.0.0.1:1")
tracker.stage_finished("documents", uri="x", reused=True, seconds=0.0)
tracker.stage_started("stage1", total_steps=2000, params={})
for step in range(1, 2001):
    tracker.progress("stage1", step, 2000, {"loss": 2.5, "tokens_per_second": 17300.0, "unheard_of": 1.0})
tracker.stage_finished("stage1", uri="x", reused=False, seconds=96.0)
tracker.stage_started("soup", total_steps=1, params={})
record = {"stage": "stage1", "task": "prose", "split": "held_out", "metric": "accuracy", "value": 0.5, "stderr": 0.01}
tracker.scored("stage1", [{**record, "n": 9, "seed": 1}])
tracker.close()
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )


def test_a_pipe_gets_plain_lines_even_when_colour_is_forced() -> None:
    done = run(RUN, FORCE_COLOR="1", CLICOLOR_FORCE="1", TERM="xterm-256color")
    assert done.returncode == 0 and done.stderr == ""
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    lines = [line[10:] for line in done.stdout.splitlines() if line[2:3] == ":"]
    assert lines[:4] == [
        "metrics at http://127.0.0.1:1",
        "stage1: started, 2,000 steps",
        "stage1: done in 1 min 36 s",
        "soup: started, 1 step",
    ]
    assert "Held-out scores" in done.stdout and "50.0 ±1.0" in done.stdout


def test_an_ascii_stream_gets_what_it_can_hold() -> None:
    done = run(RUN, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stderr == "" and "50.0 ?1.0" in done.stdout


def test_a_reader_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    """As in `lehr run ... | head -1`: the rest of the program runs, and nothing complains."""
    proof = tmp_path / "finished"
    code = (
        RUN.replace("tracker.note", "sys.stdin.read(); tracker.note")
        + f"\nprint('x' * 99_999, flush=True)\nopen({str(proof)!r}, 'w').close()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin and child.stderr
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read() == "" and child.wait(60) == 0 and proof.exists()


def test_a_terminal_gets_the_display_and_the_table() -> None:
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(slave)
    chunks = []
    while True:
        try:
            chunks.append(os.read(master, 65_536))
        except OSError:  # the other end closed
            break
        if not chunks[-1]:
            break
    os.close(master)
    text = b"".join(chunks).decode()
    assert child.wait(60) == 0
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor is hidden, and given back
    assert "↺" in text and "✓" in text and "Held-out scores" in text


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_plain_progress_comes_every_ten_seconds() -> None:
    clock, out = Clock(), io.StringIO()
    tracker = ConsoleTracker(["stage1"], stream=out, now=clock)
    tracker.stage_started("stage1", total_steps=100, params={})
    for step in range(1, 101):
        clock.seconds += 0.5
        tracker.progress("stage1", step, 100, {"loss": 2.0, "tokens_per_second": 4096.0, "skipped": float(step == 3)})
    lines = [line[10:] for line in out.getvalue().splitlines()]
    assert len(lines) == 1 + 5  # started; 10, 20, 30, 40, 50 s
    assert lines[1] == "stage1: step 20/100, loss 2.00, tokens/s 4,096, skipped 1, 0:40 left"


def test_time_left_follows_the_recent_pace() -> None:
    p = Progress("stage1", 100, 0.0)
    assert p.seconds_left(0.0) is None
    for step in range(1, 51):
        p.recent.append((float(step), step))
    assert p.seconds_left(50.0) == 50.0
    assert p.seconds_left(57.0) == 43.0  # a step that takes long does not stop the clock
    assert p.seconds_left(100.0) is None  # nor is it said that nothing is left while something is done
    resumed = Progress("stage1", 100, 0.0)
    resumed.recent.extend([(1.0, 90), (2.0, 91)])  # the steps before a resume were not made at this pace
    assert resumed.seconds_left(2.0) == 9.0


@pytest.mark.parametrize("width", [40, 80, 160])
def test_display_fits_its_terminal(width: int) -> None:
    state = RunState("tiny", ["documents", "stage1", "soup"])
    state.finish("documents", True, 0.0)
    for step in (1, 2):
        state.advance("stage1", step, 800, {"loss": 2.0, "grad_norm": 1.0, "tokens_per_second": 17_000.0}, float(step))
    state.headline["documents"] = "prose 2.001 bits/byte  math_text 0.302 bits/byte  arithmetic 93.4 %" * 3
    state.add_note("an earlier note, " * 20)
    state.add_note("a note\nof two lines, " * 4)
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(live_view(state, 3.0))
    lines = console.export_text().rstrip().splitlines()
    assert all(len(line) <= width for line in lines) and len(lines) == 1 + 3 + 2 + 1 + {40: 3, 80: 2, 160: 1}[width]
    assert lines[1].startswith("↺  documents  reused  ") and lines[1].endswith("…")  # scores are cut, and not names
    last = " ".join(" ".join(lines[7:]).split())
    assert lines[6].endswith("…") and last.count("a note of two lines,") == 4  # the last one is whole


def test_a_long_recipe_is_shown_around_its_current_stage() -> None:
    """40 stages on a screen of 24 lines: the bar and the notes must not fall off its lower end."""
    state = RunState("tiny", [f"s{i}" for i in range(40)])
    for i in range(20):
        state.finish(f"s{i}", False, 1.0)
    state.advance("s20", 1, 10, {"loss": 1.0}, 1.0)
    for i in range(9):
        state.add_note(f"note {i}")
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(live_view(state, 2.0, 24))
    text = console.export_text()
    assert len(text.splitlines()) <= 23 and "▸  s20" in text and "step 1/10" in text and "note 8" in text
    assert "… 17 before" in text and "s17" in text and "s16 " not in text and "to come" in text


RECORDS = [
    {"stage": stage, "task": task, "split": split, "metric": "accuracy", "value": value, "stderr": 0.01, "n": 100, "seed": 1}
    for task in ("arithmetic", "word_problems", "prose", "chat_math", "chat_format", "preference")
    for split in ("dev", "held_out")
    for stage, value in (("stage1", 0.25), ("soup", 0.75))
]


def test_score_tables_fit_and_mark_the_best() -> None:
    console = Console(file=io.StringIO(), width=80, record=True, force_terminal=True)
    tables = score_tables(RECORDS, 80)
    for table in tables:
        console.print(table)
    text = console.export_text(clear=False)
    assert all(len(line) <= 80 for line in text.splitlines()) and "…" not in text
    assert text.index("Held-out") < text.index("Dev") and text.count("75.0 ±1.0") == 12
    assert re.search(r"\x1b\[1m +75\.0", console.export_text(styles=True))
    assert score_table(RECORDS).row_count == 2 and len(score_table(RECORDS).columns) == 13


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_name_is_cut_however_narrow_the_terminal(width: int) -> None:
    """Names of one beginning, as `arithmetic_cf` and `arithmetic_mcf`, would be the same word with their ends cut off."""
    scores = [("arithmetic_cf", "acc"), ("arithmetic_cf", "acc_per_char")]
    scores += [("arithmetic_mcf", "acc"), ("continuation_cf", "acc")]
    row = {"split": "held_out", "value": 0.876, "stderr": 0.025, "n": 100, "seed": 1}
    records = [{**row, "stage": "anneal-42069-300b", "task": task, "metric": metric} for task, metric in scores]
    console = Console(file=io.StringIO(), width=width, record=True)
    for table in score_tables(records, width):
        console.print(table)
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.count("87.6 ±2.5") == 4 and text.count("continuation") == 1


def test_a_stage_without_steps_has_a_bar_that_moves() -> None:
    state = RunState("tiny", ["tokenizer"])
    state.start("tokenizer", 0, 0.0)
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(live_view(state, 3.0))
    assert "━" in console.export_text() or "╸" in console.export_text()


class Broken(NullTracker):
    """Fails on the first step that it hears of."""

    def __init__(self) -> None:
        self.heard = 0

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self.heard += 1
        raise OSError("the disk is full\nand a long traceback")


def test_fan_out_drops_a_broken_listener_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    out, broken = io.StringIO(), Broken()
    with FanOut([broken, ConsoleTracker(stream=out)]) as trackers:
        for step in (1, 2, 3):
            trackers.progress("stage1", step, 3, {"loss": 1.0})
        trackers.note("still here")
    assert broken.heard == 1 and "still here" in out.getvalue()
    assert [r.getMessage() for r in caplog.records] == [
        "Broken failed and is off for the rest of this run: OSError: the disk is full"
    ]
