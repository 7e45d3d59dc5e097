"""Shared by all checks: a failure is an exception with an outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lehr.infra.fleet.views import CheckResult, Outcome

SKIPPED = "Skipped"
# CUDA errors that correct programs meet on broken devices. All others may be our mistakes.
DEVICE_ERRORS = ("uncorrectable ecc", "unspecified launch failure", "hardware stack error", "nvlink", "fallen off")


class CheckFailed(Exception):
    """A check failed. `reason` is CamelCase, for node conditions; `detail` is for people."""

    def __init__(self, outcome: Outcome, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.outcome, self.reason, self.detail = outcome, reason, detail


def hardware(reason: str, detail: str = "") -> CheckFailed:
    return CheckFailed(Outcome.HARDWARE_FAILURE, reason, detail)


def performance(reason: str, detail: str = "") -> CheckFailed:
    return CheckFailed(Outcome.PERFORMANCE_FAILURE, reason, detail)


def inconclusive(reason: str, detail: str = "") -> CheckFailed:
    return CheckFailed(Outcome.INCONCLUSIVE, reason, detail)


@dataclass(frozen=True)
class Check:
    """A named check. `run` returns a detail for people, raises CheckFailed, or returns None if it does not apply."""

    name: str
    run: Callable[[], str | None]
    seconds: float  # upper limit of its normal duration


def once(check: Check) -> CheckResult:
    """Run a check. Any exception but CheckFailed is inconclusive: a mistake of ours must not cordon a node."""
    began = time.monotonic()

    def result(outcome: Outcome, reason: str, detail: str) -> CheckResult:
        return CheckResult(check.name, outcome, reason, " ".join(detail.split())[:300], round(time.monotonic() - began, 3))

    try:
        detail = check.run()
    except CheckFailed as found:
        return result(found.outcome, found.reason, found.detail)
    except Exception as error:  # noqa: BLE001 - reported, not swallowed
        text = f"{type(error).__name__}: {error}"
        if "cuda" in text.lower() and any(words in text.lower() for words in DEVICE_ERRORS):
            return result(Outcome.HARDWARE_FAILURE, "DeviceError", text)
        return result(Outcome.INCONCLUSIVE, "CheckBroke", text)
    return result(Outcome.PASS, SKIPPED if detail is None else "", detail or "")


def twice(check: Check) -> list[CheckResult]:
    """Run a check, and immediately a second time if it failed. One failure in two is inconclusive; both results are kept."""
    first = once(check)
    if first.outcome not in (Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE):
        return [first]
    return [first, once(check)]
