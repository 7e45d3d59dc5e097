"""The energy ledger over two machines, one of whose attempts is killed, against integrals that know nothing of it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.ledger import Entry, parse, spent_on
from lehr.runtime.ports import Store
from tests.storage import metered, s3_server
from tests.storage.machines import machine

ROOT = Path(__file__).resolve().parents[2]
GPUS = {0: ("A", "B"), 1: ("C", "D")}  # of each machine: with a counter, and without
SECONDS = 2.5


def _attempt(tmp_path: Path, place: str, number: int) -> list[tuple[int, str, str]]:
    """A rank on each of two machines, as a launcher would start them; the first attempt is killed."""
    common = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(s3_server.free_port()), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    common.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "tests.storage.metered", place, str(SECONDS), str(int(number == 1))]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={
                **common, "RANK": str(rank), "GROUP_RANK": str(rank), "LEHR_CACHE": str(tmp_path / f"machine-{rank}"),
                "LOOKS": str(tmp_path / f"looks-{number}-{rank}"),
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *out) for process, out in zip(started, said, strict=True)]


def _looks(tmp_path: Path, number: int, rank: int) -> list[dict[str, float]]:
    """The looks at that machine's meter; of rank 0 in attempt 2 the last but one is when it seals the artifact."""
    return [json.loads(line) for line in (tmp_path / f"looks-{number}-{rank}").read_text().splitlines()]


def _drawn(tmp_path: Path, number: int, rank: int, seconds: float = math.inf) -> dict[str, float]:
    """Joules by source between the first and the last look at that machine's meter: of the counter in closed form, of the
    sampled power by its mean over milliseconds, of the processor from what getrusage says."""
    looks = _looks(tmp_path, number, rank)
    # An entry after so many `seconds` is of the look before: a later one may not have reached the store when it was killed.
    looks = [look for look in looks if look["at"] <= looks[0]["at"] + seconds + 0.01]
    # Rank 0 looks when it seals the artifact, and then for its last entry.
    first, last, (counted, sampled) = looks[0], looks[-2 if (number, rank) == (2, 0) else -1], GPUS[rank]
    assert all(0 <= look["at"] - look[gpu] < 5 for look in (first, last) for gpu in GPUS[rank]), "a reading is of its moment"
    passed = last[sampled] - first[sampled]
    steps = round(passed * 1000)
    mean = sum(metered.watts(sampled, first[sampled] + (i + 0.5) * passed / steps) for i in range(steps)) / steps
    return {
        "nvml": metered.joules(counted, last[counted]) - metered.joules(counted, first[counted]),
        "nvml_sampled": mean * passed,
        "estimated": (last[f"cpu-{rank}"] - first[f"cpu-{rank}"]) * metered.WATTS_PER_CORE,
    }


def _by_source(entry: Entry) -> dict[str, float]:
    return {one.source: one.joules for one in entry.metered}


def _agree(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for source, joules in expected.items():
        ticks = 6 * 0.01 * metered.WATTS_PER_CORE if source == "estimated" else 0  # in which the kernel counts, at each look
        assert found[source] == pytest.approx(joules, rel=0.01, abs=ticks), (source, found, expected)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("shared", [True, False], ids=["folder", "store"])
def test_two_machines_and_a_killed_attempt_within_a_percent(root: str, tmp_path: Path, shared: bool) -> None:
    store: Store = LocalStore(tmp_path / "run") if shared else machine(root, tmp_path / "reader")
    place = str(tmp_path / "run") if shared else root
    killed, other = _attempt(tmp_path, place, 1)
    assert killed[0] == -signal.SIGKILL and other[0] != 0
    ((name, texts),) = store.unfinished().items()
    entries, damaged = parse(texts)
    assert name.startswith("t-") and not damaged and [entry.name for entry in entries] == ["1-0.json", "1-1.json"]
    lost = [_drawn(tmp_path, 1, rank, entries[rank].seconds) for rank in range(2)]
    for entry, expected in zip(entries, lost, strict=True):
        _agree(_by_source(entry), expected)
        assert entry.seconds > 0.9, "of a killed attempt there is an entry after its first second"
    assert [entry.ended for entry in entries] == [False, True] and spent_on(texts).source == "nvml+nvml_sampled+estimated"

    first, second = _attempt(tmp_path, place, 2)
    assert first[0] == second[0] == 0, (first[2] + second[2])[-3000:]
    cost = Artifact.open(store.fetch(first[1].split()[-1])).manifest.cost
    made = [_drawn(tmp_path, 2, rank) for rank in range(2)]
    whole = {source: sum(one[source] for one in [*lost, *made]) for source in made[0]}
    _agree(cost.energy, whole)
    assert cost.energy_joules == pytest.approx(sum(whole.values()), rel=0.01)
    assert (cost.machines, cost.attempts, cost.energy_gaps) == (2, 2, [])
    assert cost.energy_source == "nvml+nvml_sampled+estimated" and cost.seconds > 1.5 * SECONDS
    first_look, *_, sealed, _ = _looks(tmp_path, 2, 0)
    assert sealed["counter"] - first_look["counter"] == pytest.approx(sum(sum(one.values()) for one in made), rel=0.02), (
        "what the exporter reads"
    )
    assert store.unfinished() == {}
