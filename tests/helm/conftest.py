"""Tests of the chart. Those that render it are marked `cluster`: they need the helm that `make control-plane` provides, and
none of them may skip itself. What needs no helm runs with `make test`."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("cluster"):
        report.outcome, report.longrepr = "failed", f"a cluster test may not be skipped: {report.longrepr}"
    return report
