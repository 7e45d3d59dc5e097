"""The cost ledger: what is added and what counts once, entries that lie, and attempts that end in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lehr.artifacts import ledger_writer
from lehr.artifacts.artifact import Artifact
from lehr.artifacts.fencing import Fence
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.ledger import Entry, Metered, parse, spent_on, total
from lehr.artifacts.ledger_writer import LedgerWriter
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.run import run_stage
from lehr.pipeline.spec import Outcome, StageSpec
from lehr.runtime.energy import Drawn, NullPower
from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.ports import Power, SystemClock
from tests.staging import AnyConfig

ROOT = Path(__file__).resolve().parents[2]


class Watts(NullPower):
    """A constant power, by the machine's clock."""

    source = "nvml"

    def __init__(self, watts: float, gaps: tuple[str, ...] = ()) -> None:
        self.watts, self.gaps, self.began, self.others = watts, gaps, time.monotonic(), 0.0

    def drawn(self) -> Drawn:
        return Drawn({("nvml", "A"): self.watts * (time.monotonic() - self.began)}, self.gaps)

    def joules(self) -> float:
        return self.drawn().joules + self.others

    def elsewhere(self, joules: float) -> None:
        self.others += joules


def entry(attempt: int, rank: int = 0, seconds: float = 1.0, group: int = 0, **joules: float) -> Entry:
    metered = tuple(Metered(source="nvml", device=device, joules=j) for device, j in joules.items())
    return Entry(attempt=attempt, rank=rank, group=group, host=f"host-{group}", seconds=seconds, metered=metered, ended=True)


def stage(root: Path, work: Callable[[Attempt], None], power: Power) -> Artifact:
    """`work` as a stage."""

    def run(config: AnyConfig, inputs: object, attempt: Attempt) -> Outcome:
        work(attempt)
        return Outcome()

    spec = StageSpec("test", AnyConfig, {}, "checkpoint", "cpu", "data", run)  # type: ignore[arg-type]
    return Artifact.open(run_stage(spec, "t", AnyConfig(), spec.inputs({}), StageContext(LocalStore(root), power=power)).uri)


def entries_of(root: Path) -> list[Entry]:
    return [entry for texts in LocalStore(root).unfinished().values() for entry in parse(texts)[0]]


# -- the sum


def test_ranks_machines_and_attempts_add_up_and_a_device_in_two_entries_counts_once() -> None:
    found = total([entry(1, A=5.0), entry(1, 1, A=4.0, B=2.0), entry(1, 2, group=1, C=8.0), entry(2, seconds=3.0, A=1.0)])
    assert (found.joules, found.energy, found.machines, found.attempts) == (16.0, {"nvml": 16.0}, 2, 2)
    assert found.seconds == 4.0 and found.source == "nvml"


def test_an_attempt_lasts_as_long_as_rank_0_or_if_that_is_lost_as_the_longest() -> None:
    assert total([entry(1, 1, seconds=9.0), entry(1, seconds=2.0)]).seconds == 2.0
    assert total([entry(1, 1, seconds=9.0), entry(1, 2, seconds=11.0)]).seconds == 11.0
    assert total([]).source == "none"


GOOD = entry(1, A=1.0).model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", "\ud800".encode("utf-8", "replace").decode(), GOOD[:-1],
        GOOD.replace('"joules":1.0', '"joules":-1.0'), GOOD.replace('"joules":1.0', '"joules":1e999'),
        GOOD.replace('"joules":1.0', '"joules":NaN'), GOOD.replace('"attempt":1', '"attempt":2'), "[" * 100_000,
        GOOD.replace('"ended"', '"more":1,"ended"'),
    ],
)  # fmt: skip
def test_a_damaged_or_misnamed_entry_counts_as_nothing_and_is_said(text: str) -> None:
    found = spent_on({"1-0.json": text, "1-1.json": entry(1, 1, B=2.0).model_dump_json()})
    assert found.joules == 2.0 and found.gaps == ("1-0.json was damaged",)


# -- attempts


def test_an_attempt_that_fails_counts_up_to_its_end_and_each_only_once(tmp_path: Path) -> None:
    ends: list[float] = []

    def fails(attempt: Attempt) -> None:
        time.sleep(0.3)
        ends.append(time.monotonic())
        raise UserError("not yet")

    began = time.monotonic()
    for watts in (100.0, 200.0):
        with pytest.raises(UserError):
            stage(tmp_path, fails, Watts(watts))
    one, two = entries_of(tmp_path)
    assert one.ended and two.ended and (one.attempt, two.attempt) == (1, 2)
    cost = stage(tmp_path, lambda attempt: time.sleep(0.1), power := Watts(50.0)).manifest.cost
    before = sum(each.joules for each in (*one.metered, *two.metered))
    assert 90 <= before <= 200 * (time.monotonic() - began)
    assert before + 5 <= cost.energy_joules <= before + power.drawn().joules
    assert (cost.attempts, cost.machines, cost.energy_source, cost.energy) == (3, 1, "nvml", {"nvml": cost.energy_joules})
    assert cost.seconds >= 0.7 and LocalStore(tmp_path).unfinished() == {} and not list((tmp_path / "work").iterdir())


KILLED = """
import sys, time
from pathlib import Path
from tests.artifacts.test_ledger import Watts, stage
from lehr.runtime.errors import UserError

def work(attempt):
    print(time.monotonic(), flush=True)
    time.sleep(60)

stage(Path(sys.argv[1]), work, Watts(100.0))
"""


def test_a_killed_attempt_counts_up_to_its_last_entry(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    began = float(process.stdout.readline())
    deadline = time.monotonic() + 30
    while not entries_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    lasted = time.monotonic() - began
    process.wait()
    (lost,) = entries_of(tmp_path)
    assert 1.0 <= lost.seconds <= lasted + 0.5 and lost.metered[0].joules == pytest.approx(100 * lost.seconds, rel=0.02, abs=2)
    cost = stage(tmp_path, lambda attempt: None, Watts(0.0)).manifest.cost
    assert cost.energy_joules == lost.metered[0].joules and cost.attempts == 2


def test_entries_come_more_seldom_as_the_attempt_grows_and_at_once_beside_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "_FIRST_SECONDS", 30.0)
    seen: list[int] = []

    def work(attempt: Attempt) -> None:
        seen.append(len(attempt.fencing.entries(attempt.scratch)))
        attempt.saved()
        deadline = time.monotonic() + 10
        while not attempt.fencing.entries(attempt.scratch) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(len(attempt.fencing.entries(attempt.scratch)))

    stage(tmp_path, work, Watts(1.0))
    assert seen == [0, 1]


def test_a_ledger_that_cannot_be_written_fails_no_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Fence, scratch: Path, name: str, entry: str) -> None:
        raise InfraError("the store is away")

    monkeypatch.setattr(Fence, "keep_entry", refuse)
    cost = stage(tmp_path, lambda attempt: time.sleep(0.05), Watts(100.0)).manifest.cost
    assert cost.energy_joules >= 5 and "the store is away" in caplog.text


def test_what_a_meter_cannot_count_goes_with_the_artifact(tmp_path: Path) -> None:
    cost = stage(tmp_path, lambda attempt: None, Watts(1.0, ("A does not answer",))).manifest.cost
    assert len(cost.energy_gaps) == 1 and cost.energy_gaps[0].endswith(": A does not answer")


# -- other ranks, whose entries this process writes in their stead


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "2",
        "RANK": "0",
        "GROUP_RANK": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ledger_writer, "_WAIT_SECONDS", 0.5)


def put(attempt: Attempt, one: Entry) -> None:
    attempt.fencing.keep_entry(attempt.scratch, one.name, one.model_dump_json())


def test_rank_0_waits_for_the_last_entry_of_every_machine(tmp_path: Path, two_machines: None) -> None:
    def work(attempt: Attempt) -> None:
        attempt.power_on_ranks()
        put(attempt, entry(1, 1, group=1, C=3.0).model_copy(update={"ended": False}))
        threading.Timer(0.2, put, (attempt, entry(1, 1, group=1, C=7.0))).start()

    power = Watts(0.0)
    cost = stage(tmp_path, work, power).manifest.cost
    assert cost.energy_joules == 7.0 and cost.machines == 2 and cost.energy_gaps == []
    assert power.joules() == 7.0, "the exporter's counter has what the other machine drew"


@pytest.mark.parametrize(
    ("last", "gap"), [(4.0, "host-1: counted up to 4 s after it began"), (None, "1 of 2 machines did not count")]
)
def test_a_machine_that_says_no_last_word_counts_as_far_as_it_got(
    tmp_path: Path, two_machines: None, last: float | None, gap: str
) -> None:
    def work(attempt: Attempt) -> None:
        attempt.power_on_ranks()
        if last is not None:
            put(attempt, entry(1, 1, last, 1, C=3.0).model_copy(update={"ended": False}))

    cost = stage(tmp_path, work, Watts(0.0)).manifest.cost
    assert cost.energy_joules == (3.0 if last else 0.0) and cost.energy_gaps == [gap]


def test_a_stage_of_rank_0_alone_waits_for_nobody(tmp_path: Path, two_machines: None) -> None:
    cost = stage(tmp_path, lambda attempt: None, Watts(0.0)).manifest.cost
    assert cost.energy_gaps == [] and cost.machines == 1


def test_a_machine_that_waits_for_rank_0_between_two_pieces_of_work_counts_that(tmp_path: Path) -> None:
    power, store = Watts(100.0), LocalStore(tmp_path)
    first = LedgerWriter(power, SystemClock(), store.scratch("a"), store.begin("a"))
    first.resume(announce=True)
    assert not parse(store.begin("a").entries(store.scratch("a")))[0][0].ended
    first.end()
    time.sleep(0.2)
    second = LedgerWriter(power, SystemClock(), store.scratch("b"), store.begin("b"), first)
    one = second.current()
    assert one.metered[0].joules >= 20.0 and one.seconds < 0.1


def test_an_overtaken_attempt_leaves_nothing_where_the_stage_is_done(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old = LedgerWriter(Watts(1.0), SystemClock(), store.scratch("t"), store.begin("t"))
    (tmp_path / "work" / "t").rmdir()
    old.resume(announce=True)
    old.end()
    assert not (tmp_path / "work" / "t").exists()


def test_what_led_to_nothing_is_found_in_the_runs_place(tmp_path: Path) -> None:
    def fails(attempt: Attempt) -> None:
        raise UserError("no")

    with pytest.raises(UserError):
        stage(tmp_path, fails, Watts(1000.0))
    (tmp_path / "work" / "stray").mkdir()
    (tmp_path / "work" / "file").write_text("x")
    ((name, texts),) = LocalStore(tmp_path).unfinished().items()
    assert name.startswith("t-") and spent_on(texts).joules > 0 and json.loads(texts["1-0.json"])["ended"]
