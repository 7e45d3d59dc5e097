"""Copies in the memory of two machines: a restart takes the newest that is whole, and ends with the bits of a run that never
stopped; what is torn, damaged, of another layout or left behind by a rollback is never read."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import sha256_text
from lehr.config.training import Watch
from lehr.distributed.ranks import run_ranks
from lehr.train.checkpointing.copied_saves import FOLDER
from tests.distributed.cases import corpus, curve, weights
from tests.distributed.copying import Run, Scene, full_memory, newer_attempt, play, put_aside
from tests.storage import s3_server
from tests.storage.machines import stops_at_22
from tests.train import pieces

pytestmark = pytest.mark.long  # whole runs: with all others make test would not stay within its minutes

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [f"0000-{step:08d}-000001-{part:06d}" for step in (6, 9) for part in (0, 1)]  # two generations of both parts


def nothing(run: Run) -> None:
    """The ranks alone were killed."""


def lose_one(run: Run) -> None:
    shutil.rmtree(run.memories[0])
    (run.place / "curves.jsonl").unlink()  # its disk is lost too


def lose_both(run: Run) -> None:
    for memory in run.memories:
        shutil.rmtree(memory)


def flip(machines: tuple[int, ...], run: Run) -> None:
    """A bit of part 1 of the newest generation, in the memory of these machines."""
    for machine in machines:
        path = run.files(machine)[-1]
        data = bytearray(path.read_bytes())
        data[-5] ^= 4
        path.write_bytes(data)


def tear(run: Run) -> None:
    """Both machines went while part 1 of the newest generation was published."""
    for machine in (0, 1):
        run.files(machine)[-1].with_suffix(".json").unlink()


def damage_the_store(run: Run) -> None:
    for path in run.place.rglob("sharded-00000010-*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])


def bring_back(run: Run) -> None:
    """The copies of before the rollback, as if no machine had deleted them."""
    for rank, memory in enumerate(run.memories):
        shutil.rmtree(memory, ignore_errors=True)
        shutil.copytree(run.folder / f"aside-{rank}", memory)


def lend(run: Run) -> None:
    """Another run comes to machines with this one's copies, even in its own place."""
    elsewhere = run.folder.parent / "elsewhere"
    for memory in run.memories:
        (own,) = memory.iterdir()
        shutil.copytree(own, elsewhere / memory.name / sha256_text(str(elsewhere / "store" / "attempts" / "t.json"))[:16])


@dataclass(frozen=True)
class Case:
    """The runs of a scene as changes to a plain one, what happens between them, and what is said in the end: the beginnings of
    the last lines. `again` are further changes to the second. `end`: the run that ends with the same bits."""

    name: str
    happens: Callable[[Run], None]
    said: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    again: dict[str, Any] = field(default_factory=dict)
    end: str = "whole"


MEMORY, STORE = "the state of step {} is from copies in memory", "t: going on at step {}"
NINE, SIX, THREE = ((MEMORY.format(n), STORE.format(n)) for n in (9, 6, 3))
PASSED = "the copies in memory of step 9 are damaged and passed over"
DAMAGED = "sharded-00000010-1 is damaged and passed over: its hashes differ from its record's"
UNMADE = "the copy in memory of step 6 is not made: "
BACK: dict[str, Any] = {"saves": 4, "bad": (10, 11)}
CASES = (
    Case("killed", nothing, NINE),
    Case("one is lost", lose_one, NINE),
    Case("both are lost", lose_both, (STORE.format(8),), {"saves": 4}),
    Case("a flipped bit", partial(flip, (1,)), NINE),
    Case("both flipped", partial(flip, (0, 1)), (PASSED, *SIX)),
    Case("torn", tear, SIX),
    Case("the store is newer", nothing, (STORE.format(10),), {"saves": 5}),
    Case("the store is damaged", damage_the_store, (DAMAGED, *NINE), {"saves": 5}),
    Case("save and copy at once", nothing, NINE, {"saves": 3}),
    Case("a rollback", nothing, (STORE.format(8),), {**BACK, "stop": 13}, end="rolled back"),
    Case("a stale copy", bring_back, (STORE.format(8),), {**BACK, "stop": 13, "meanwhile": {10: put_aside}}, end="rolled back"),
    Case("flat", nothing, NINE, {"layout": "flat"}, end="flat whole"),
    Case("flat, one is lost", lose_one, NINE, {"layout": "flat"}, end="flat whole"),
    Case("another layout", nothing, (), {"layout": "flat"}, {"layout": "zero1"}, end=""),
    Case("another run", lend, (), again={"folder": Path("elsewhere")}),
    Case("a full memory", nothing, (f"{UNMADE}another rank could not write its own", *THREE), {"meanwhile": {5: full_memory}}),
    Case("a newer attempt", nothing, (f"{UNMADE}t: attempt 1 is over, att", *THREE), {"meanwhile": {5: newer_attempt}}),
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Run]:
    """All scenes, on the same two ranks one after the other; and the runs that never stopped, without copies."""
    folder = tmp_path_factory.mktemp("played")
    wholes: dict[str, dict[str, Any]] = {"whole": {}, "flat whole": {"layout": "flat"}, "rolled back": BACK}
    runs = {name: Run(folder / name, data, copies=0, **changes) for name, changes in wholes.items()}
    scenes = [Scene(replace(run, stop=0), nothing, run) for run in runs.values()]
    for case in CASES:
        first = replace(Run(folder / case.name, data, stop=11), **case.changes)
        again = {**case.again, "folder": folder / case.again.get("folder", case.name)}
        runs[case.name] = replace(first, stop=-1, meanwhile={}, **again)
        scenes.append(Scene(first, case.happens, runs[case.name]))
        first.folder.mkdir()
    for name in wholes:
        runs[name].folder.mkdir()
    run_ranks(2, 1, play, scenes)
    return runs


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_restart_ends_with_the_bits_of_a_run_that_never_stopped(played: dict[str, Run], case: Case) -> None:
    run, said = played[case.name], played[case.name].said()
    assert len(said) >= len(case.said) and all(map(str.startswith, said[len(said) - len(case.said) :], case.said)), said
    assert len(said) == len(case.said) or "bad" in case.changes, said  # of a rollback there is more to say
    assert not run.files(0) and not run.files(1), "a stage that has ended leaves nothing in memory"
    if case.end:
        whole, ours = played[case.end], weights(run.place)
        assert all(torch.equal(ours[name], tensor) for name, tensor in weights(whole.place).items())
        assert curve(run.place) == curve(whole.place)


def test_each_machine_keeps_two_generations_of_its_own_part_and_of_its_peers(played: dict[str, Run]) -> None:
    folder = played["killed"].folder
    assert [(folder / f"had-{machine}").read_text().split() for machine in (0, 1)] == [PAIRS, PAIRS]
    assert not (played["a rollback"].folder / "had-0").read_text(), "what is left out is forgotten"
    flat = played["flat"].folder
    assert [(flat / f"had-{machine}").read_text().split() for machine in (0, 1)] == [PAIRS[::2], PAIRS[::2]]


def _launched(folder: Path, data: Path, call: int) -> list[tuple[int, str]]:
    """A rank on each machine, as torchrun would start them: (exit code, stderr)."""
    common = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(s3_server.free_port()), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.distributed.copying", str(folder), str(data), str(call)]
    started = [
        subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, env={**common, "RANK": rank, "GROUP_RANK": rank})
        for rank in ("0", "1")
    ]
    return [(process.wait(120), process.communicate()[1]) for process in started]


@pytest.mark.long
def test_ranks_that_are_killed_go_on_from_memory(tmp_path: Path, data: Path, played: dict[str, Run]) -> None:
    """Rank 1 with SIGKILL; rank 0 loses it. Both machines' memories stay."""
    (lost, _), (killed, _) = _launched(tmp_path, data, 11)
    assert killed == -signal.SIGKILL and lost != 0
    ended = _launched(tmp_path, data, -1)
    assert [code for code, _ in ended] == [0, 0], ended
    run, whole = Run(tmp_path, data), played["whole"]
    assert run.said() == [*NINE]
    assert all(torch.equal(weights(run.place)[name], tensor) for name, tensor in weights(whole.place).items())
    assert curve(run.place) == curve(whole.place)


def test_one_process_alone_and_only_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often, notes = Watch(copy_steps=5), pieces.Notes()
    whole = pieces.stage(tmp_path / "whole", pieces.plain, watch=often, tracker=notes)
    assert f"no copies in memory are made: {FOLDER} names no folder in memory on every machine" in notes.texts
    monkeypatch.setenv(FOLDER, str(tmp_path / "memory"))
    with pytest.raises(pieces.Stop):
        pieces.stage(tmp_path / "run", stops_at_22, every=8, watch=often)
    assert len(list((tmp_path / "memory").glob("*/*.json"))) == 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "memory").iterdir()} == {0o700}
    again = pieces.stage(tmp_path / "run", pieces.plain, every=8, watch=often, tracker=notes)
    assert "the state of step 20 is from copies in memory" in notes.texts
    assert not list((tmp_path / "memory").iterdir())
    for name in ("state.safetensors", "logs/stability.json"):
        assert again.path(name).read_bytes() == whole.path(name).read_bytes()
    monkeypatch.setenv(FOLDER, str(tmp_path / "other"))
    pieces.stage(tmp_path / "without", pieces.plain)
    assert not (tmp_path / "other").exists(), "a recipe that does not ask has none"
