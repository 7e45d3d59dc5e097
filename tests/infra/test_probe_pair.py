"""The test of the way between two nodes, as two real processes over loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.infra.fleet.serialization import decode
from lehr.infra.fleet.views import Outcome, Verdict
from tests.cluster.plane import free_port

ROOT = Path(__file__).resolve().parents[2]


def side(folder: Path, role: str, port: int, **changes: str) -> subprocess.Popen[bytes]:
    folder = folder / role
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LEHR_PAIR_ROLE": role,
        "LEHR_PAIR_ADDRESS": "127.0.0.1",
        "LEHR_PAIR_PORT": str(port),
        "LEHR_VERDICT": str(folder / "verdict.json"),
        "LEHR_TERMINATION_LOG": str(folder / "termination-log"),
        "GLOO_SOCKET_IFNAME": "lo",
        **changes,
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "lehr.infra.pod.probes.pair"], env=environment, **quiet)


def said(folder: Path, role: str) -> Verdict:
    return decode(Verdict, (folder / role / "termination-log").read_bytes())


@pytest.mark.long
def test_two_sides_that_meet_agree_and_a_slow_way_fails_for_who_has_a_floor(tmp_path: Path) -> None:
    port = free_port()
    sides = [side(tmp_path, "listen", port), side(tmp_path, "connect", port, LEHR_FLOOR_PAIR="1e9")]
    assert [process.wait(280) for process in sides] == [0, 0]
    assert said(tmp_path, "listen").outcome is Outcome.PASS
    slow = said(tmp_path, "connect")
    assert (slow.outcome, slow.reason) == (Outcome.PERFORMANCE_FAILURE, "PairSlow")


@pytest.mark.long
def test_who_waits_alone_knows_nothing_and_who_finds_nobody_accuses_the_way(tmp_path: Path) -> None:
    sides = [
        side(tmp_path, "listen", free_port(), LEHR_PAIR_SECONDS="2"),
        side(tmp_path, "connect", free_port(), LEHR_PAIR_CONNECT_SECONDS="2"),
    ]
    assert [process.wait(280) for process in sides] == [0, 0]
    assert (said(tmp_path, "listen").outcome, said(tmp_path, "listen").reason) == (Outcome.INCONCLUSIVE, "PairAlone")
    lost = said(tmp_path, "connect")
    assert (lost.outcome, lost.reason, lost.check) == (Outcome.HARDWARE_FAILURE, "PairUnreachable", "pair")
