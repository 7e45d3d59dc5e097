"""`lehr serve` in a pod, scraped as the chart's PodMonitor says: a real API server, a real Prometheus, a real server."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.infra.kube.api import Api
from lehr.monitoring.rules.serving import alerts
from tests.cluster.chart import MONITORING, render
from tests.cluster.conftest import World, eventually
from tests.cluster.kubelet import pods_path
from tests.cluster.objects import create, namespace
from tests.cluster.plane import HOST, free_port
from tests.cluster.prometheus import Prometheus, of_pod_monitor, serving
from tests.cluster.test_serving_incident import Server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
CHAT, ELSEWHERE = "chat", "elsewhere"
TOKEN = "a-token-of-a-server"


class Stranger:
    """Listens, and notes what it is sent."""

    def __init__(self) -> None:
        self.socket = socket.create_server((HOST, 0))
        self.port, self.heard = self.socket.getsockname()[1], list[bytes]()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client:
                self.heard.append(client.recv(4096))


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.socket.close()


def _pod(api: Api, where: str, name: str, port: int, labels: dict[str, str]) -> None:
    """One that runs, as its kubelet would say."""
    container = {"name": "server", "image": "lehr", "ports": [{"name": "lehr-serve", "containerPort": port}]}
    meta = {"name": name, "namespace": where, "labels": labels}
    api.create(pods_path(where), {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})
    api.merge(f"{pods_path(where, name)}/status", {"status": {"phase": "Running", "podIP": HOST, "podIPs": [{"ip": HOST}]}})


def _secret(api: Api, where: str, name: str, key: str) -> None:
    data = {key: base64.b64encode(TOKEN.encode()).decode()}
    create(api, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": where}, "data": data})


def test_servers_reach_prometheus_by_the_charts_monitor(
    world: World, tmp_path: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their token, which no pod of another namespace is sent; one that never came up is missed."""
    monkeypatch.setenv("LEHR_SERVE_TOKEN", TOKEN)
    values = {"monitoring": {"servingPodMonitor": {"namespaces": [CHAT]}}}
    (monitor,) = (item for item in render(values, MONITORING) if item["metadata"]["name"] == "lehr-serve")
    api, server = world.admin, Server(tmp_path)
    for where in (CHAT, ELSEWHERE):
        create(api, namespace(where, managed=False))
        eventually(lambda where=where: api.get(f"/api/v1/namespaces/{where}/serviceaccounts/default"), "accounts exist")
    named = monitor["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    _secret(api, CHAT, **named)
    token = base64.b64decode(api.get(f"/api/v1/namespaces/{CHAT}/secrets/{named['name']}")["data"][named["key"]]).decode()
    _pod(api, CHAT, "talks", server.port, {"lehr.dev/serve": "olmo"})
    _pod(api, CHAT, "never-came-up", free_port(), {"lehr.dev/serve": "code"})
    _pod(api, CHAT, "no-server", stranger.port, {})
    _pod(api, ELSEWHERE, "stranger", stranger.port, {"lehr.dev/serve": "olmo"})
    scrape = of_pod_monitor(monitor, token, api, tmp_path)
    try:
        server.start()
        with serving(tmp_path, tmp_path / "data", interval="500ms", more=[scrape]) as prometheus:
            eventually(lambda: _jobs(prometheus, "up == 1") == {"olmo/lehr-serve"}, "the server is scraped", 60)
            eventually(lambda: _jobs(prometheus, "lehr_serve_rows") == {"olmo/lehr-serve"}, "its metrics are there", 60)
            (labels,) = prometheus.at("lehr_serve_rows", time.time())
            assert {"namespace": CHAT, "pod": "talks"}.items() <= dict(labels).items()
            eventually(lambda: _jobs(prometheus, _down()) == {"code/lehr-serve"}, "one is missed, by its service's name", 60)
    finally:
        server.kill()
    assert stranger.heard == []


def _down() -> str:
    return next(alert.expr for alert in alerts() if alert.name == "LehrServeDown")


def _jobs(prometheus: Prometheus, query: str) -> set[str]:
    return {dict(labels)["job"] for labels in prometheus.at(query, time.time())}
