"""A tracker whose time the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.runtime import heartbeat
from tests.monitoring.exported import Meter, Time


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that trained in this process has left the loop's last heartbeat."""
    monkeypatch.setattr(heartbeat, "_paused", False)


@pytest.fixture
def tracker() -> Iterator[PrometheusTracker]:
    made = PrometheusTracker(About("tiny", model="olmo2", recipe_sha256="ab" * 32), Meter(), now=Time())
    yield made
    made.close()


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever started the tests, this process is no rank, and may use all GPUs."""
    for name in ("CUDA_VISIBLE_DEVICES", "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
