"""Timing, records, and the page that keeps the last results.

A ratio above 1 means that Lehr is better. Contestants of a case run in turns in one process, so that what else the machine
does meets all of them alike; figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch

from lehr.runtime.hardware import keep_freed_memory

T = TypeVar("T")
LEHR = "Lehr"  # among contestants
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
_SECTION = re.compile(r"<!-- benchmarks\.(\w+) -->\n### (.*?)<!-- end of", re.DOTALL)
_ROW = re.compile(  # case, peer, ratio, target, verdict
    r"^\| (.+?) \| .*? \| .*? \| (.*?) \| .*? \| \*\*(\S+)\*\* \| (\S+): (met|not met|cannot tell) \|", re.MULTILINE
)
_FOLDERS = ("peers", "lm-eval")  # made by `make peers`
PEERS = os.environ.get("LEHR_PEERS") or os.pathsep.join(str(Path.home() / ".cache/lehr" / name) for name in _FOLDERS)


@dataclass(frozen=True)
class Record:
    """One comparison: `lehr` and `peer` in `unit`, `ratio` above 1 where Lehr is better, `target` the least it should be.
    `note` says what bounds it. `unsure`: the figures' interval holds the target."""

    area: str
    case: str
    lehr: float
    peer: float
    peer_name: str
    ratio: float
    unit: str = ""
    note: str = ""
    target: float = 1.0
    unsure: bool = False


def compared(
    area: str,
    case: str,
    lehr: float,
    peer: float,
    peer_name: str,
    unit: str,
    *,
    less_is_better: bool = False,
    note: str = "",
    target: float = 1.0,
) -> Record:
    """A record from two figures."""
    ratio = peer / lehr if less_is_better else lehr / peer
    return Record(area, case, round(lehr, 4), round(peer, 4), peer_name, round(ratio, 3), unit, note, target)


def with_peers() -> None:
    """Put the peers' packages behind ours on the path: torch and numpy stay those of the product."""
    sys.path += [folder for folder in PEERS.split(os.pathsep) if Path(folder).is_dir() and folder not in sys.path]


def installed(peers: dict[str, Callable[[], T]]) -> dict[str, T]:
    """What those peers make that can be made here; the others are named, on stderr, and left out."""
    found = {}
    for name, make in peers.items():
        try:
            found[name] = make()
        except Exception as error:  # noqa: BLE001 (a broken package of others may raise anything; the rest is still measured)
            left_out(name, error)
    return found


def left_out(name: str, error: Exception) -> None:
    """Say that a peer is missing or broken."""
    print(f"left out: {name} ({type(error).__name__}: {error}); try make peers", file=sys.stderr)


def in_turns(
    contestants: dict[str, Callable[[], object]], turns: int, warm: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of one call of each contestant, called in turns; the first `warm` turns do not count. With
    `time.process_time` as `clock`, CPU seconds. A peer that fails is named and left out; Lehr may not fail."""
    running, times = dict(contestants), {name: list[float]() for name in contestants}
    for turn in range(turns + warm):
        for name, call in list(running.items()):
            gc.collect()
            began = clock()
            try:
                call()
            except Exception as error:
                if name == LEHR:
                    raise
                left_out(name, error)
                del running[name]
            else:
                times[name] += [clock() - began] if turn >= warm else []
    return {name: statistics.median(times[name]) for name in running}


def main(area: str, run: Callable[[], Sequence[Record]], more: Callable[[], str] = lambda: "") -> int:
    """The command line of one area: run it, print a table or JSON, and keep the records on the page, with what `more` says
    beneath them. With --json nothing but JSON goes to stdout, whatever the peers print."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{area}", description=run.__doc__)
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    parser.add_argument("--no-page", action="store_true", help="do not write docs/performance.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every training process of ours does; here it serves the peers too
    with_peers()
    with contextlib.redirect_stdout(sys.stderr):
        records = list(run())
    if arguments.json:
        print(json.dumps([asdict(r) for r in records], indent=1))
    else:
        print(table(records))
    if not arguments.no_page:
        write_page(area, records, more())
    return 0


def table(records: Sequence[Record]) -> str:
    """Markdown."""
    lines = ["| case | Lehr | peer | | unit | ratio | target | note |", "|---|---:|---:|---|---|---:|---|---|"]
    for r in records:
        figures = f"{r.lehr:,.4g} | {r.peer:,.4g} | {r.peer_name} | {r.unit}"
        lines.append(f"| {r.case} | {figures} | **{r.ratio:.3g}** | {r.target:g}: {verdict(r)} | {r.note} |")
    return "\n".join(lines)


def verdict(record: Record) -> str:
    if record.unsure:
        return "cannot tell"
    return "met" if record.ratio >= record.target else "not met"


def write_page(area: str, records: Sequence[Record], more: str) -> None:
    """Replace the section of `area` in docs/performance.md, or add it, and count anew what is met."""
    machine = f"{os.cpu_count()} cores ({processor()}), torch {torch.__version__}"
    where = f"`python -m benchmarks.{area}`, {time.strftime('%Y-%m-%d')}, {machine}"
    rule = "Ratio above 1: Lehr is better. One thread, medians of interleaved turns."
    text = _with_section(PAGE.read_text(encoding="utf-8"), area, f"### {area}\n{where}. {rule}\n\n{table(records)}\n{more}")
    PAGE.write_text(_with_section(text, "summary", summary(text)), encoding="utf-8")


def _with_section(text: str, name: str, section: str) -> str:
    begin, end = f"<!-- benchmarks.{name} -->", f"<!-- end of benchmarks.{name} -->"
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{section}{end}{rest.partition(end)[2]}"


def summary(page: str) -> str:
    """Markdown of what the areas' tables on the page say about their targets."""
    lines = ["| area | targets met | not met, or not to be told on this machine |", "|---|---:|---|"]
    for area, section in _SECTION.findall(page):
        rows = _ROW.findall(section)
        missed = [
            f"{case} ({peer}: {ratio}, target {target}: {met})" for case, peer, ratio, target, met in rows if met != "met"
        ]
        if rows:
            lines.append(f"| {area} | {len(rows) - len(missed)} of {len(rows)} | {'; '.join(missed)} |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
