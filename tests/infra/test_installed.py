"""What `helm test` runs: each check passes on what is right, and says what is wrong. On a real API server: tests/cluster."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lehr.infra.controller import installed
from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.settings import Settings
from lehr.infra.kube.api import Api
from lehr.infra.kube.transport import Reply, Request, Stream
from lehr.monitoring.metrics import Fleet
from lehr.runtime.errors import UserError

SETTINGS = Settings(namespaces=("training", "more"))


class Server:
    """An API server of one answer."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self._answer = answer

    def send(self, request: Request) -> Reply:
        return Reply(200, {}, json.dumps(self._answer(request)).encode())

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        raise NotImplementedError


def reviewer(allowed: Callable[[installed.Right], bool]) -> Api:
    def answer(request: Request) -> Any:
        asked = request.body["spec"]["resourceAttributes"]
        kind = ".".join(part for part in (asked["resource"], asked.get("group", "")) if part)
        rest = asked.get("subresource") or asked.get("name")
        right = (asked["verb"], f"{kind}/{rest}" if rest else kind, asked.get("namespace", ""))
        return {"status": {"allowed": allowed(right)}}

    return Api(Server(answer))


def test_permissions_are_asked_one_by_one() -> None:
    needed = installed.needed(SETTINGS)
    said = installed.permissions(reviewer(lambda right: right in needed), SETTINGS)
    assert said.startswith(f"permissions: {len(needed)} rights are there")
    assert not set(needed) & set(installed.refused(SETTINGS))


@pytest.mark.parametrize(
    "missing", [("delete", "pods", "more"), ("update", "leases.coordination.k8s.io/lehr-controller", "lehr-system")]
)
def test_a_right_too_few_is_named(missing: installed.Right) -> None:
    needed = installed.needed(SETTINGS)
    with pytest.raises(UserError, match=f"may not {missing[0]} {missing[1]} in {missing[2]}"):
        installed.permissions(reviewer(lambda right: right in needed and right != missing), SETTINGS)


@pytest.mark.parametrize("more", installed.refused(SETTINGS))
def test_a_right_too_many_is_named(more: installed.Right) -> None:
    needed = installed.needed(SETTINGS)
    with pytest.raises(UserError, match=r"the controller may .*bound its account to more"):
        installed.permissions(reviewer(lambda right: right in needed or right == more), SETTINGS)


def lease(*times: str, holder: str = "a") -> Api:
    left = list(times)
    return Api(Server(lambda _: {"spec": {"holderIdentity": holder, "renewTime": left.pop(0) if len(left) > 1 else left[0]}}))


def test_a_lease_that_is_renewed_has_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "PAUSE_SECONDS", 0.0)
    assert installed.leader(lease("1", "1", "2"), SETTINGS) == "leader: a leads"
    with pytest.raises(UserError, match=r"leases/lehr-controller: nobody renews the Lease\. Look at"):
        installed.leader(lease("1"), SETTINGS, patience=0)
    with pytest.raises(UserError, match="nobody renews"):
        installed.leader(lease("1", "2", holder=""), SETTINGS, patience=0)
    assert "dry_run" in installed.leader(lease("1"), SETTINGS.model_copy(update={"dry_run": True}))


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[ControllerMetrics]]]:
    """Two replicas' metrics, at two addresses of one port and name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = [ControllerMetrics(), ControllerMetrics()]
    addresses = ["127.0.0.1", "127.0.0.2"]
    for metrics, address in zip(made, addresses, strict=True):
        metrics.serve(address, port)
        metrics.set(Fleet.LEADER, 0)
    own = socket.getaddrinfo
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: found if host == "metrics" else own(host, *a, **k))
    yield port, made
    for metrics in made:
        metrics.close()


def test_one_replica_leads(replicas: tuple[int, list[ControllerMetrics]]) -> None:
    port, (first, second) = replicas
    with pytest.raises(UserError, match=f"metrics:{port}: 0 of 2 replicas"):
        installed.metrics("metrics", port, patience=0)
    first.set(Fleet.LEADER, 1)
    assert installed.metrics("metrics", port, patience=0) == "metrics: 2 replicas serve them, one leads"
    with pytest.raises(UserError, match="1 of 2 replicas"):
        installed.metrics("metrics", port, dry_run=True, patience=0)
    second.set(Fleet.LEADER, 1)
    assert "none writes" in installed.metrics("metrics", port, dry_run=True, patience=0)
    with pytest.raises(UserError, match="2 of 2 replicas"):
        installed.metrics("metrics", port, patience=0)
    second.close()
    with pytest.raises(UserError, match="metrics"):
        installed.metrics("metrics", port + 1, patience=0)


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Host"].startswith("127.0.0.1") else 403)
        self.end_headers()
        self.wfile.write(b"Invalid Host header")

    def log_message(self, *_: object) -> None:
        return


def test_mlflow_has_to_know_its_name() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        assert installed.mlflow(f"http://127.0.0.1:{port}", patience=0).endswith("answers")
        with pytest.raises(UserError, match=r"answers 403: Invalid Host header.*allowedHosts"):
            installed.mlflow(f"http://localhost:{port}", patience=0)
    finally:
        server.shutdown()
        server.server_close()


def test_a_mistaken_call_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert installed.main(["nothing"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "metrics HOST PORT" in said and len(said.splitlines()) == 1


def test_the_webhooks_address_comes_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("https://hooks.example.org/T0/B0/x\n")
    settings = Settings.checked({"webhook_url_file": str(path)})
    assert (
        settings.with_webhook().webhook_url == "https://hooks.example.org/T0/B0/x" and Settings().with_webhook() == Settings()
    )
    for content in ("ftp://hunter2", "https://a b", ""):
        path.write_text(content)
        with pytest.raises(UserError, match=str(path)) as error:
            settings.with_webhook()
        assert "hunter2" not in str(error.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text"):
        settings.with_webhook()
    with pytest.raises(UserError, match="No such file"):
        Settings(webhook_url_file=str(tmp_path / "none")).with_webhook()
    with pytest.raises(UserError, match="not both"):
        Settings.checked({"webhook_url_file": "x", "webhook_url": "https://x"})
