"""The preflight: what it sees, that it always answers, and in time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lehr.infra.fleet.serialization import decode
from lehr.infra.fleet.signals import is_bad
from lehr.infra.fleet.views import CheckResult, Outcome, Verdict
from lehr.infra.pod.probes import exact, inject, runner
from lehr.infra.pod.probes.result import Check, CheckFailed, hardware, inconclusive, performance, twice

ROOT = Path(__file__).resolve().parents[2]


# The exact multiplication


def splitmix(seed: int, index: int) -> int:
    mask = 2**64 - 1
    z = (index + (seed << 32)) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_reference_is_the_exact_product_of_the_published_operands() -> None:
    assert exact.digest() == exact.REFERENCE
    for number, which in enumerate(exact.PASSES):
        span = which.high - which.low + 1

        def entry(seed: int, row: int, column: int, which: exact.Pass = which, span: int = span) -> int:
            value = splitmix(seed, row * exact.TILE + column + 1) % span + which.low
            return value or which.high

        a, b = exact.operands(which, number)
        for i, j in ((0, 0), (17, 255), (255, 3)):
            seeds = exact.SEED + 2 * number, exact.SEED + 2 * number + 1
            by_hand = sum(entry(seeds[0], i, k) * entry(seeds[1], k, j) for k in range(exact.TILE))
            assert int((a @ b)[i, j]) == by_hand


def test_no_partial_sum_can_round() -> None:
    for number, which in enumerate(exact.PASSES):
        a, b = exact.operands(which, number)
        assert int((np.abs(a) @ np.abs(b)).max()) < 2**24
        assert (a != 0).all()
        assert (b != 0).all()
    for part in exact.prepare():
        assert np.isfinite(part.expected).all()
        upper = part.a.view(np.uint32) & 0xFFFF
        assert not upper.any(), "operands must be exact in bf16"


def test_detection_table() -> None:
    prepared = exact.prepare()
    bars = {"stuck operand bit": 1.0, "stuck accumulator bit": 0.95, "flipped output bit": 1.0}
    faults = inject.all_faults(seed=7)
    for kind in inject.KINDS:
        seen = [inject.is_detected(fault, prepared) for fault in faults if fault.kind == kind]
        assert len(seen) >= 64
        assert sum(seen) / len(seen) >= bars[kind], kind
    healthy = inject._accumulate
    exact.check_with(lambda a, b: healthy(a, b, None), prepared)  # the model without a fault passes


def test_clean_starts_raise_no_alarm() -> None:
    """The figure for 100,000 is in docs/fleet.md (benchmarks/preflight_detection.py); here enough to see a flaw."""
    prepared = exact.prepare(64)
    for _ in range(500):
        exact.check_with(exact._on_cpu, prepared)
    assert exact.run().startswith(("cpu", "1 gpus"))


# Verdicts


def check(*outcomes: CheckFailed | Exception | str | None) -> Check:
    """A check that does these things in turn."""
    turns = list(outcomes)

    def run() -> str | None:
        found = turns.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return Check("matmul", run, 1.0)


BAD, SLOW, LOST = hardware("MatmulMismatch"), performance("H2DBandwidthLow"), inconclusive("Timeout")


@pytest.mark.parametrize(
    ("turns", "outcome", "bad"),
    [
        (("fine",), Outcome.PASS, False),
        ((None,), Outcome.PASS, False),
        ((BAD, BAD), Outcome.HARDWARE_FAILURE, True),
        ((BAD, "fine"), Outcome.INCONCLUSIVE, False),
        ((BAD, LOST), Outcome.INCONCLUSIVE, False),
        ((SLOW, SLOW), Outcome.PERFORMANCE_FAILURE, False),
        ((SLOW, "fine"), Outcome.PASS, False),
        ((SLOW, BAD), Outcome.INCONCLUSIVE, False),
        ((LOST,), Outcome.INCONCLUSIVE, False),
        ((ZeroDivisionError("ours"),), Outcome.INCONCLUSIVE, False),
        ((RuntimeError("CUDA error: out of memory"),), Outcome.INCONCLUSIVE, False),
        (2 * (RuntimeError("CUDA error: uncorrectable ECC error encountered"),), Outcome.HARDWARE_FAILURE, True),
    ],
)
def test_failure_counts_only_when_an_immediate_second_run_agrees(turns: tuple, outcome: Outcome, bad: bool) -> None:
    group = twice(check(*turns))
    assert len(group) == len(turns)
    found = runner.verdict_of([group], 1.0)
    assert found.outcome is outcome
    assert is_bad(found) is bad
    if BAD in turns:
        assert any(r.outcome is Outcome.HARDWARE_FAILURE for r in found.results), "kept: a second pod may repeat it"


def test_worst_outcome_wins_whatever_the_order() -> None:
    groups = [twice(check(LOST)), twice(check(BAD, BAD)), twice(check(SLOW, SLOW)), twice(check("fine"))]
    for order in (groups, groups[::-1]):
        assert runner.verdict_of(order, 1.0).outcome is Outcome.HARDWARE_FAILURE


def test_message_fits_a_termination_message_and_stays_a_verdict() -> None:
    long = "ü" * 300
    groups = [[CheckResult(f"check{i}", Outcome.PASS, "", long)] for i in range(30)]
    groups += [[CheckResult(f"bad{i}", Outcome.HARDWARE_FAILURE, "MatmulMismatch", long)] * 2 for i in range(30)]
    verdict = runner.verdict_of(groups, 1.0)
    text = runner.message(verdict)
    assert len(text.encode()) <= 4096
    back = decode(Verdict, text)
    assert (back.outcome, back.check, is_bad(back)) == (Outcome.HARDWARE_FAILURE, "bad0", True)
    small = runner.verdict_of(groups[:1], 1.0)
    assert decode(Verdict, runner.message(small)) == small


# The child process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", f"import json, os, signal, sys, time\n{code}"]


SAY = "def say(**d): print(json.dumps(d), flush=True)\n"


@pytest.mark.parametrize(
    ("code", "check", "reason"),
    [
        ("say(began='memory'); time.sleep(60)", "memory", "Timeout"),
        ("signal.signal(15, signal.SIG_IGN); say(began='memory'); time.sleep(60)", "memory", "Timeout"),
        ("say(began='matmul'); os.kill(os.getpid(), 11)", "matmul", "CheckCrashed"),
        ("sys.exit(3)", "start", "CheckCrashed"),
        ("os.close(1); time.sleep(60)", "start", "Timeout"),
    ],
)
def test_child_that_hangs_or_dies_is_inconclusive_and_in_time(code: str, check: str, reason: str) -> None:
    began = time.monotonic()
    found = runner.run_all(1.5, python(SAY + code))
    assert time.monotonic() - began < 20  # of 60
    assert (found.outcome, found.check, found.reason) == (Outcome.INCONCLUSIVE, check, reason)


def test_failure_before_a_hang_is_not_lost() -> None:
    item = "{'check': 'matmul', 'outcome': 'hardware-failure', 'reason': 'MatmulMismatch'}"
    found = runner.run_all(1.5, python(SAY + f"say(ended=[{item}, {item}]); say(began='memory'); time.sleep(60)"))
    assert is_bad(found)


def run_module(folder: Path, **env: str) -> tuple[subprocess.CompletedProcess[str], float]:
    paths = {"LEHR_VERDICT": str(folder / "verdict.json"), "LEHR_TERMINATION_LOG": str(folder / "log")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lehr.infra.pod.probes"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **paths, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done, time.monotonic() - began


@pytest.mark.long
def test_preflight_on_this_machine_passes_and_writes_the_same_verdict_twice(tmp_path: Path) -> None:
    done, seconds = run_module(tmp_path, LEHR_COLLECTIVE_SECONDS="40")  # this machine may be busy
    assert done.returncode == 0
    assert seconds < 48
    verdict = decode(Verdict, (tmp_path / "verdict.json").read_bytes())
    assert (tmp_path / "log").read_text() == (tmp_path / "verdict.json").read_text()
    assert verdict.outcome is Outcome.PASS, verdict
    assert [r.check for r in verdict.results] == ["nvml", "clock", "matmul", "memory", "bandwidth", "collective", "disk"]


def test_kill_switches_time_limit_and_unwritable_places_still_end_in_exit_code_0(tmp_path: Path) -> None:
    off = {f"LEHR_PROBE_{c.name.upper()}": "off" for c in runner.checks()}
    done, _ = run_module(tmp_path, **off)
    verdict = decode(Verdict, (tmp_path / "log").read_bytes())
    assert done.returncode == 0
    assert {r.detail for r in verdict.results} == {"switched off"}
    nowhere = {"LEHR_VERDICT": "/nonexistent/verdict.json", "LEHR_TERMINATION_LOG": "/nonexistent/log"}
    done, seconds = run_module(tmp_path, LEHR_PROBE_SECONDS="3.05", **nowhere)
    assert done.returncode == 0
    assert seconds < 5
    assert decode(Verdict, done.stdout).reason == "Timeout"
    done, _ = run_module(tmp_path, LEHR_PROBE_SECONDS="soon")
    assert (done.returncode, decode(Verdict, done.stdout).outcome) == (0, Outcome.INCONCLUSIVE)


def test_soak_repeats_until_a_check_fails_and_tells_good_results_once() -> None:
    out = io.BytesIO()
    turns = ["fine"] * 5 + [BAD, BAD]
    runner.child([check(*turns)], out, soak_seconds=60.0)
    ended = [json.loads(text)["ended"] for text in out.getvalue().splitlines() if b"ended" in text]
    assert [[r["outcome"] for r in group] for group in ended] == [["pass"], 2 * ["hardware-failure"]]
    assert out.getvalue().count(b"began") == 6
