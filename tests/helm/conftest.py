"""Tests of the chart. Those that render it are marked `cluster`: they need the helm that `make control-plane` provides, and
none of them may skip itself. What needs no helm runs with `make test`."""

from tests.cluster.skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
