"""Energy of processors: the estimate from CPU seconds, and RAPL against counters that the test writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lehr.monitoring.energy.cpu import CpuEstimate, Rapl
from lehr.monitoring.energy.meter import PowerMeter
from lehr.monitoring.energy.process_tree import TreeCpuSeconds
from lehr.monitoring.machine import descendants
from tests.monitoring.machines import Clock, write_busy, write_zone

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("no_launcher")


def test_the_estimate_counts_children_that_still_run_and_never_falls() -> None:
    """A child that works is counted while it works, and still counted once it is gone."""
    meter = PowerMeter(10.0, [CpuEstimate(10.0)])
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint('warm', flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    running = meter.drawn().joules
    assert running >= 0.35 * 10.0 and meter.joules() == running
    child.communicate("\n")
    assert meter.drawn().joules >= running
    assert meter.source == "estimated"
    meter.close()


def test_the_estimate_counts_this_process() -> None:
    seconds = TreeCpuSeconds()
    before, start = seconds(), time.process_time()
    while time.process_time() < start + 0.2:
        pass
    assert seconds() - before >= 0.15


def test_processes_of_others_are_looked_at_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And this run's, with those that it starts, each time."""

    def write(pid: int, parent: int, ticks: int) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b)) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 0\n")

    now = Clock(0.0)
    own, tick = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    write(1, 0, 9000)
    write(7, 1, 9000)
    write(20, os.getpid(), tick)
    seconds = TreeCpuSeconds(tmp_path, now)
    assert seconds() - own == pytest.approx(1.0, abs=0.3)
    write(21, 20, 2 * tick)
    (tmp_path / "7" / "stat").unlink()
    (tmp_path / "7" / "stat").mkdir()  # whoever reads it now fails
    read = []
    monkeypatch.setattr("lehr.monitoring.energy.process_tree.descendants", lambda *a: read.append(set(a[2])) or descendants(*a))
    assert seconds() - own == pytest.approx(3.0, abs=0.3)
    now.at = 61.0
    seconds()
    assert read == [{20, 21}, {1, 7, 20, 21}]


# A launcher: it starts another rank, which works for 0.3 s, and a rank that counts. `argv`: ranks of this machine, patience.
LAUNCHER = """
import os, subprocess, sys
work = "import time\\nwhile time.process_time() < 0.3: pass\\ninput()"
count = '''
import sys, time
from lehr.monitoring.energy.process_tree import TreeCpuSeconds
seconds, end = TreeCpuSeconds(), time.monotonic() + float(sys.argv[1])
while seconds() < time.process_time() + 0.25 and time.monotonic() < end:
    time.sleep(0.05)
print(seconds() - time.process_time())
'''
other = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
env = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": sys.argv[1]}
subprocess.run([sys.executable, "-c", count, sys.argv[2]], env=env, check=True)
other.communicate(b"\\n")
"""


@pytest.mark.parametrize(("local_world", "patience", "counted"), [("2", "30", True), ("1", "0.5", False)])
def test_under_a_launcher_the_other_ranks_of_a_machine_count_too(local_world: str, patience: str, counted: bool) -> None:
    """Where there is one rank to a machine, what its parent does besides is not its own."""
    command = [sys.executable, "-c", LAUNCHER, local_world, patience]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (float(done.stdout) > 0.25) is counted


def _rapl(tmp_path: Path, own: Clock, now: Clock) -> Rapl:
    return Rapl(tmp_path / "powercap", cpu=own, proc=tmp_path / "proc", now=now)


def test_rapl_adds_packages_and_memory_over_a_wrap(tmp_path: Path) -> None:
    """Packages and dram count; psys holds both and core is part of a package, so neither may."""
    root, own, now = tmp_path / "powercap", Clock(0.0), Clock()
    files = {
        zone: write_zone(root, zone, name, joules, 1000)
        for zone, name, joules in (("0", "package-0", 900), ("0:0", "core", 1), ("0:1", "dram", 5), ("1", "psys", 7))
    }
    write_busy(tmp_path / "proc", 50)
    rapl = _rapl(tmp_path, own, now)
    for zone, joules in (("0", 20), ("0:1", 8), ("0:0", 999), ("1", 999)):  # package 0: 900 J -> 1000 J = 0 -> 20 J
        files[zone].write_text(f"{joules * 1_000_000}\n")
    own.at, now.at = 10.0, 110.0
    write_busy(tmp_path / "proc", 60)
    assert rapl.read() == {"cpu": pytest.approx(120 + 3)} and rapl.gaps == rapl.events == ()
    with pytest.raises(FileNotFoundError):
        Rapl(tmp_path / "nowhere")


def test_of_rapl_a_run_is_charged_its_share_of_processor_time_and_two_runs_all_of_it_once(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 0)
    write_busy(tmp_path / "proc", 0)
    mine, theirs, now = Clock(0.0), Clock(0.0), Clock()
    runs = [_rapl(tmp_path, mine, now), _rapl(tmp_path, theirs, now)]
    counter.write_text(f"{400 * 1_000_000}\n")
    mine.at, theirs.at, now.at = 3.0, 1.0, 110.0
    write_busy(tmp_path / "proc", 4)
    assert [run.read()["cpu"] for run in runs] == pytest.approx([300, 100])
    counter.write_text(f"{500 * 1_000_000}\n")
    mine.at, now.at = 7.0, 120.0  # a process's time is known before the machine's sum of it: no more than all
    write_busy(tmp_path / "proc", 6)
    assert [run.read()["cpu"] for run in runs] == pytest.approx([400, 100])


def test_energy_waits_for_processor_time_to_be_shared_out_by(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 0)
    write_busy(tmp_path / "proc", 0)
    own, now = Clock(0.0), Clock()
    rapl = _rapl(tmp_path, own, now)
    counter.write_text(f"{10 * 1_000_000}\n")
    own.at = 0.02
    write_busy(tmp_path / "proc", 0.02)
    assert rapl.read() == {"cpu": 0.0}  # two ticks
    own.at = 0.5
    write_busy(tmp_path / "proc", 1.0)
    assert rapl.read() == {"cpu": pytest.approx(5.0)}


def test_a_rapl_counter_that_began_again_or_vanishes_is_said_and_adds_nothing_that_was_not_drawn(tmp_path: Path) -> None:
    counter = write_zone(tmp_path / "powercap", "0", "package-0", 100)
    write_busy(tmp_path / "proc", 0)
    own, now = Clock(0.0), Clock()
    rapl = _rapl(tmp_path, own, now)
    counter.write_text(f"{5 * 1_000_000}\n")  # after a suspend; as a wrap it would have been 262,049 J in ten seconds
    own.at, now.at = 1.0, 110.0
    write_busy(tmp_path / "proc", 1)
    assert rapl.read() == {"cpu": pytest.approx(5.0)}
    assert rapl.events == ("intel-rapl:0 (package-0) began again: what it counted just before that is missing",)
    counter.unlink()
    own.at, now.at = 2.0, 120.0
    write_busy(tmp_path / "proc", 2)
    assert rapl.read() == {"cpu": pytest.approx(5.0)} and "cannot be read (FileNotFoundError" in rapl.gaps[0]
    write_zone(tmp_path / "powercap", "0", "package-0", 9)
    own.at, now.at = 3.0, 130.0
    write_busy(tmp_path / "proc", 3)
    assert rapl.read() == {"cpu": pytest.approx(9.0)} and rapl.gaps == ()
