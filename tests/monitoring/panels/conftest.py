"""Samples of a run and of a fleet, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring.panels.samples import Recording, record


@pytest.fixture(scope="session")
def recording() -> Iterator[Recording]:
    with pytest.MonkeyPatch.context() as patch:
        yield record(patch)
