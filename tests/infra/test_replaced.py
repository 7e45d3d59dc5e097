"""Pods of a stage on several nodes that are replaced while the others go on: what they cost, and when they are the cause."""

from __future__ import annotations

from typing import Any

import pytest

from lehr.infra.jobs.attempts import AttemptLedger
from lehr.infra.jobs.payer import RETRIES, SYSTEM_RETRIES, Payer
from tests.infra.test_attempts import FAILED, attempt, gone
from tests.infra.test_jobs import DISRUPTED, ended, pod

Object = dict[str, Any]


def at(end: Object, time: str) -> Object:
    end["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = f"2026-12-01T{time}Z"
    return end


REPLACED = (
    (pod("b", **ended("primary", 137)), "exit code 137"),
    (pod("b", **ended("primary", 172)), "exit code 172"),
    (pod("b", **ended("preflight-gate", 171, kind="initContainerStatuses")), "exit code 171"),
    (pod("b", **ended("primary", 1), **DISRUPTED), "lost"),
)


@pytest.mark.parametrize(("lost", "why"), REPLACED)
def test_a_pod_that_is_replaced_costs_no_retry(lost: Object, why: str) -> None:
    ledger = AttemptLedger()
    assert not ledger.see_attempts([attempt(1, pod("a", "Running"), pod("b", "Running"))])
    (end,) = ledger.see_attempts([attempt(1, pod("a", "Running"), lost)])
    assert (end.pod, end.payer) == ("b", Payer.SYSTEM) and why in end.why
    assert ledger.system_retries() == 0 and ledger.replaced == {"b"}
    assert not ledger.see_attempts([attempt(1, pod("a", "Running"), lost, pod("b-2", "Running"))])
    done = [{"type": "Complete", "status": "True"}]
    assert not ledger.see_attempts([attempt(1, pod("a", "Succeeded"), pod("b-2", "Succeeded"), conditions=done)])


def test_a_pod_that_is_deleted_while_the_others_go_on_costs_no_retry_either() -> None:
    ledger = AttemptLedger()
    ledger.see_attempts([attempt(1, pod("a", "Running"), pod("b", "Running"))])
    assert not ledger.see_attempts([attempt(1, pod("a", "Running"), gone("b"))])
    (end,) = ledger.see_attempts([attempt(1, pod("a", "Running"), pod("b-2", "Running"))])
    assert (end.pod, end.why) == ("b", "deleted") and ledger.system_retries() == 0


def test_out_of_memory_costs_the_user_a_retry_though_the_pod_is_replaced() -> None:
    ledger = AttemptLedger()
    for number in range(RETRIES + 1):
        assert not ledger.overdrawn()
        ledger.see_attempts([attempt(1, pod("a", "Running"), pod(f"b-{number}", **ended("primary", 137, "OOMKilled")))])
    assert "failed 4 times" in ledger.overdrawn()


def test_any_number_of_pods_may_be_replaced_as_long_as_the_attempt_goes_on() -> None:
    ledger = AttemptLedger()
    for number in range(3 * SYSTEM_RETRIES):
        ledger.see_attempts([attempt(1, pod("a", "Running"), pod(f"b-{number}", **ended("primary", 137)))])
    assert not ledger.overdrawn() and len(ledger.replaced) == 3 * SYSTEM_RETRIES


def test_who_was_lost_just_before_an_attempt_failed_is_the_cause_and_who_was_lost_long_before_is_not() -> None:
    for lost_at, payer in (("10:00:00", Payer.SYSTEM), ("09:00:00", Payer.USER)):
        lost, crashed = at(ended("primary", 137), lost_at), at(ended("primary", 139), "10:00:09")
        ledger = AttemptLedger()
        assert len(ledger.see_attempts([attempt(1, pod("a", "Running"), pod("b", **lost))])) == 1
        (end,) = ledger.see_attempts([attempt(1, pod("a", **crashed), pod("b", **lost), conditions=FAILED)])
        assert end.payer is payer
        assert ledger.system_retries() == (payer is Payer.SYSTEM), "counted once"


def test_pods_that_end_with_their_job_are_not_counted() -> None:
    ledger = AttemptLedger()
    ledger.see_attempts([attempt(1, pod("a", "Running"), pod("b", "Running"))])
    (end,) = ledger.see_attempts([attempt(1, pod("a", **ended("primary", 139)), conditions=FAILED)])
    assert end.payer is Payer.USER and ledger.system_retries() == 0 and not ledger.replaced
