"""A real Prometheus and a real Alertmanager on loopback, what they scrape, and who they notify."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.chart import CHART
from tests.cluster.provide import find

CONFIG = "prometheus.yaml"
PATIENCE_SECONDS = 90.0  # on a machine that others use as well
FASTER = 60  # a minute of the rules is a second here
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"\b(\d+)([smhd])\b")


def faster(rule: dict[str, Any]) -> dict[str, Any]:
    """`rule` with every duration shortened; numbers of seconds that it compares with stay."""

    def shorten(text: str) -> str:
        return _DURATION.sub(lambda found: f"{int(found[1]) * _SECONDS[found[2]] * 1000 // FASTER}ms", text)

    return {key: shorten(value) if key in ("expr", "for", "keep_firing_for") else value for key, value in rule.items()}


@dataclass
class Scene:
    """What is scraped, values by series, and what arrives at each receiver: (alert's labels, firing or resolved). `others` is
    scraped beside it: addresses by job."""

    values: dict[str, Callable[[], float]] = field(default_factory=dict)
    heard: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    port: int = 0
    prometheus: str = ""
    alertmanager: str = ""

    def set(self, series: str, value: float | Callable[[], float]) -> None:
        self.values[series] = value if callable(value) else lambda: value

    def got(self, receiver: str, alert: str, status: str = "firing", **labels: str) -> bool:
        """Whether the receiver was told this of an alert with these labels."""
        wanted = {"alertname": alert, **labels}.items()
        return any(who == receiver and said == status and wanted <= seen.items() for who, seen, said in self.heard)

    def told_of(self, alert: str) -> list[tuple[str, dict[str, str], str]]:
        return [found for found in self.heard if found[1]["alertname"] == alert]

    def firing(self, alert: str, **labels: str) -> bool:
        """Whether Prometheus itself has the alert."""
        return self.states(alert, **labels) == {"firing"}

    def states(self, alert: str, **labels: str) -> set[str]:
        """Those in which Prometheus has the alert: pending, firing."""
        found = fetch(f"{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        wanted = {"alertname": alert, **labels}.items()
        return {one["state"] for one in found if wanted <= one["labels"].items()}

    def suppressed(self, alert: str, **labels: str) -> bool:
        """Whether Alertmanager has the alert and keeps it quiet because of another."""
        wanted = {"alertname": alert, **labels}.items()
        found = [one for one in fetch(f"{self.alertmanager}/api/v2/alerts") if wanted <= one["labels"].items()]
        return bool(found) and all(one["status"]["state"] == "suppressed" and one["status"]["inhibitedBy"] for one in found)


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return json.loads(answer.read())


def eventually(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until `condition`; returns how long it took. Fails with `what`."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return time.monotonic() - began
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@contextmanager
def staged(folder: Path, begin: Callable[[Scene], None]) -> Iterator[Scene]:
    """All of it, until the end of the block. `begin` sets the values of the first scrape."""
    scene = Scene()
    begin(scene)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(scene))
    scene.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    running: list[subprocess.Popen[bytes]] = []
    try:
        scene.alertmanager = _start(running, folder, "alertmanager", _alertmanager(scene, folder))
        scene.prometheus = _start(running, folder, "prometheus", _prometheus(scene, folder))
        _rules_from_now_on(scene, folder)
        yield scene
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)
        server.shutdown()
        server.server_close()


def _handler(scene: Scene) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("".join(f"{name} {value():.17g}\n" for name, value in list(scene.values.items())).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scene.heard += [(self.path.strip("/"), alert["labels"], alert["status"]) for alert in body["alerts"]]
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None

    return Handler


def _alertmanager(scene: Scene, folder: Path) -> list[str]:
    """The chart's own example, with addresses and without its pauses. Nothing listens for other Alertmanagers."""
    config = yaml.safe_load((CHART / "files/alertmanager/alertmanager.yaml").read_text(encoding="utf-8"))
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        url = f"http://127.0.0.1:{scene.port}/{receiver['name']}"
        receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
    path = folder / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return [f"--config.file={path}", f"--storage.path={folder}/alerts", "--cluster.listen-address="]


def _rules_from_now_on(scene: Scene, folder: Path) -> None:
    """Give Prometheus its rules once it has scraped everything. It looks for what to scrape five seconds after its start, which
    is five minutes of the rules: an alert of what is absent would be on its way meanwhile, and heard at any time later."""
    wanted = len(scene.others) + 1
    eventually(lambda: len(fetch(f"{scene.prometheus}/api/v1/query?query=up==1")["data"]["result"]) == wanted, "all is scraped")
    names = []
    for path in (CHART / "files/rules").glob("*.yaml"):
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        quick = [{**group, "rules": [faster(rule) for rule in group["rules"]]} for group in groups]
        (folder / path.name).write_text(yaml.safe_dump({"groups": quick}), encoding="utf-8")
        names.append(path.name)
    config = folder / CONFIG
    read = yaml.safe_load(config.read_text(encoding="utf-8"))
    config.write_text(yaml.safe_dump({**read, "rule_files": names}), encoding="utf-8")
    urllib.request.urlopen(f"{scene.prometheus}/-/reload", data=b"", timeout=PATIENCE_SECONDS).close()


def _prometheus(scene: Scene, folder: Path) -> list[str]:
    config = {
        "global": {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "1s",
            "external_labels": {"cluster": "c"},
        },
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [scene.alertmanager.removeprefix("http://")]}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]}
            for job, address in {"lehr": f"127.0.0.1:{scene.port}", **scene.others}.items()
        ],
    }
    path = folder / CONFIG
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return [f"--config.file={path}", f"--storage.tsdb.path={folder}/series", "--web.enable-lifecycle"]


def _start(running: list[subprocess.Popen[bytes]], folder: Path, name: str, arguments: list[str]) -> str:
    """Start a server on a free port of loopback; returns its URL once it is ready."""
    binary = find(name)
    assert binary is not None, f"no {name}: run `make control-plane`, or `python tests/cluster/provide.py --only monitoring`"
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        command = [str(binary), *arguments, f"--web.listen-address={place}"]
        running.append(subprocess.Popen(command, cwd=binary.parent, stdout=out, stderr=out))

    def ready() -> bool:
        assert running[-1].poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            return bool(urllib.request.urlopen(f"http://{place}/-/ready", timeout=2).status == 200)
        except OSError:
            return False

    eventually(ready, f"{name} is ready; see {log}")
    return f"http://{place}"
