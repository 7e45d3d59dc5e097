"""No cluster test may skip itself: what it needs is provided, or the run has failed. Conftests of such tests import this."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("cluster"):
        report.outcome, report.longrepr = "failed", f"a cluster test may not be skipped: {report.longrepr}"
    return report
