"""Runs the checks in a child process with a time limit, and combines their results into one verdict.

The parent loads nothing that can hang. When time is up, or the child dies, it uses the results so far: an unfinished check is
inconclusive. It never waits for a child that cannot be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import BinaryIO

from lehr.infra.fleet.serialization import encode, from_data, to_data
from lehr.infra.fleet.views import CheckResult, Outcome, Verdict
from lehr.infra.pod.probes import VERSION
from lehr.infra.pod.probes.result import SKIPPED, Check, once, twice

MAX_BYTES = 4096  # of a termination message
SEVERITY = (Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE, Outcome.INCONCLUSIVE)


def checks() -> list[Check]:
    """All checks in their order: cheap and conclusive ones first, in case time runs out."""
    from lehr.infra.pod.probes import bandwidth, collective, devices, exact, host, memory

    return [
        Check("nvml", devices.run, 2.0),
        Check("clock", host.clock, 0.5),
        Check("matmul", exact.run, 8.0),
        Check("memory", memory.run, 8.0),
        Check("bandwidth", bandwidth.run, 4.0),
        Check("collective", collective.run, 15.0),
        Check("disk", host.disk, 3.0),
    ]


def switched_off(name: str) -> bool:
    """Whether LEHR_PROBE_MATMUL=off or the like switches the check off."""
    return os.environ.get(f"LEHR_PROBE_{name.upper()}", "").lower() in ("off", "0", "false", "no")


def child(todo: list[Check], out: BinaryIO, soak_seconds: float = 0.0) -> None:
    """Run the checks, with one JSON line for each start and each end, flushed at once, since this process may be killed.

    With `soak_seconds` they are repeated for that long, or until one fails; passes are reported in the first round only.
    """
    until = time.monotonic() + soak_seconds
    rounds, good = 0, True
    while good and (rounds == 0 or time.monotonic() < until):
        rounds += 1
        for check in todo:
            _say(out, {"began": check.name})
            group = [_off(check)] if switched_off(check.name) else twice(check)
            fine = all(result.outcome is Outcome.PASS for result in group)
            good = good and fine
            if rounds == 1 or not fine:
                _say(out, {"ended": [to_data(result) for result in group]})


def child_once(check: Check, out: BinaryIO) -> None:
    """Run one check once: for a test of two nodes, which one of them cannot repeat alone."""
    _say(out, {"began": check.name})
    _say(out, {"ended": [to_data(once(check))]})


def _say(out: BinaryIO, data: object) -> None:
    out.write(json.dumps(data).encode() + b"\n")
    out.flush()


def _off(check: Check) -> CheckResult:
    return CheckResult(check.name, Outcome.PASS, SKIPPED, "switched off")


def run_all(seconds: float, command: list[str] | None = None) -> Verdict:
    """The verdict, after at most `seconds` and a moment. Never raises because of a device."""
    began = time.monotonic()
    argv = command or [sys.executable, "-m", "lehr.infra.pod.probes", "--child"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
    results: list[list[CheckResult]] = []
    running = ""
    try:
        for data in _lines(process, began + seconds):
            running = str(data.get("began", ""))
            if "ended" in data:
                results.append([from_data(CheckResult, item) for item in data["ended"]])
    finally:
        _end(process)
    late = time.monotonic() - began >= seconds
    if late or process.returncode != 0:
        reason, detail = ("Timeout", f"no answer in {seconds:g} s") if late else ("CheckCrashed", _status(process.returncode))
        results.append([CheckResult(running or "start", Outcome.INCONCLUSIVE, reason, detail)])
    return verdict_of(results, time.monotonic() - began)


def _status(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _lines(process: subprocess.Popen[bytes], deadline: float) -> Iterable[dict[str, list[object]]]:
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                return
            block = os.read(process.stdout.fileno(), 65536)
            if not block:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its output but hangs: `run_all` reports it
                    process.wait(timeout=max(0.1, deadline - time.monotonic()))
                return
            *whole, rest = (rest + block).split(b"\n")
            yield from (json.loads(text) for text in whole)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and all its processes. One that hangs in the kernel is left; it ends with the pod."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        print("a check could not be killed; it hangs in the kernel", file=sys.stderr)


def verdict_of(groups: list[list[CheckResult]], seconds: float) -> Verdict:
    """The worst outcome. A failure that the second run did not repeat is inconclusive; both results are kept."""
    worst: tuple[Outcome, CheckResult] | None = None
    for group in groups:
        outcome, result = _agreed(group)
        if outcome is not Outcome.PASS and (worst is None or SEVERITY.index(outcome) < SEVERITY.index(worst[0])):
            worst = (outcome, result)
    results = tuple(result for group in groups for result in group)
    now = time.time()
    if worst is None:
        return Verdict(Outcome.PASS, VERSION, finished_at=now, seconds=round(seconds, 2), results=results)
    outcome, result = worst
    confirmed = outcome in (Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE)
    return Verdict(outcome, VERSION, result.check, result.reason, result.detail, confirmed, now, round(seconds, 2), results)


def _agreed(group: list[CheckResult]) -> tuple[Outcome, CheckResult]:
    if len(group) == 1:
        return group[0].outcome, group[0]
    first, second = group
    if first.outcome is second.outcome:
        return first.outcome, first
    if Outcome.HARDWARE_FAILURE in (first.outcome, second.outcome):
        return Outcome.INCONCLUSIVE, first if first.outcome is Outcome.HARDWARE_FAILURE else second
    # Slow, then fast: something else was running. Slow, then inconclusive: inconclusive.
    return second.outcome, second


def message(verdict: Verdict) -> str:
    """JSON of at most MAX_BYTES bytes. Removed first are details of passes, then passes, then all but the failed check."""
    good = Outcome.PASS
    smaller: list[Callable[[], list[CheckResult]]] = [
        lambda: [_without_detail(r) if r.outcome is good else r for r in verdict.results],
        lambda: [r for r in verdict.results if r.outcome is not good],
        lambda: [_without_detail(r) for r in verdict.results if r.check == verdict.check],
    ]
    text = encode(verdict)
    for results in smaller:
        if len(text.encode()) <= MAX_BYTES:
            break
        text = encode(replace(verdict, results=tuple(results())))
    return text


def _without_detail(result: CheckResult) -> CheckResult:
    return CheckResult(result.check, result.outcome, result.reason, "", result.seconds)
