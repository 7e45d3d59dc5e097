"""Where metrics are served: outside a pod on loopback, in a pod on all its addresses at the port that monitors look for."""

from __future__ import annotations

import pytest

from lehr.infra.pod.pod_template import METRICS_PORT
from lehr.runtime.errors import UserError
from lehr.tasks import exporting


def test_a_pod_is_reached_at_all_its_addresses_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (exporting.pod_address(), exporting.pod_port()) == ("127.0.0.1", 0)  # as the tests have it
    monkeypatch.delenv(exporting.ADDRESS)
    monkeypatch.delenv(exporting.PORT)
    assert exporting.pod_address() in ("::", "0.0.0.0") and exporting.pod_port() == METRICS_PORT
    monkeypatch.setenv(exporting.PORT, "many")
    with pytest.raises(UserError, match="LEHR_METRICS_PORT"):
        exporting.pod_port()


def test_only_the_first_rank_of_a_pod_without_rank_0_serves_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert exporting.follow() is None  # in no pod
    monkeypatch.setenv("LEHR_TERMINATION_LOG", "/dev/null")
    for name, value in (("LOCAL_RANK", "1"), ("RANK", "0")):
        with monkeypatch.context() as other:
            other.setenv(name, value)
            assert exporting.follow() is None
    exporter = exporting.follow()
    assert exporter is not None
    exporter.close()
