"""`lehr serve` in trouble, as the person on call sees it: the real server under load, a real Prometheus with the chart's rules,
a real Alertmanager."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from lehr.interop.hf_export import export_hf
from tests.cluster.incident import Scene, eventually, fetch, staged
from tests.cluster.plane import free_port
from tests.graph.source import ROOT
from tests.serving.served import TOKENIZER, tiny

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]
JOB, ROWS, WAITING = "chat", 2, 24
QUICK, LONG = 4, 150  # tokens of an answer
ALERTS = [f"LehrServe{name}" for name in ("Failing", "Errors", "Refusing", "Saturated", "Stuck", "Slow", "Down", "Restarting")]


class Server:
    """The command, at one port however often it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        model = tiny(length=1024)
        TOKENIZER.save(folder)
        weights = {name: p.detach() for name, p in model.model.named_parameters()}
        self.model = export_hf(weights, model.model.config, folder / "tokenizer.json", None, folder / "model")

    def start(self) -> None:
        script = Path(__file__).with_name("faulty_server.py")
        command = [sys.executable, str(script), str(self.folder), str(self.model), "--port", str(self.port)]
        command += ["--rows", str(ROWS), "--waiting", str(WAITING)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually(lambda: self.ask("GET", "/health", None) == 200, f"it answers; see {self.folder}/server.log", 60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def ask(self, method: str, path: str, body: object) -> int:
        """The status, 0 for none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with suppress(OSError, HTTPException):
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        return 0

    @contextmanager
    def broken(self, how: str) -> Iterator[None]:
        (self.folder / how).touch()
        try:
            yield
        finally:
            (self.folder / how).unlink()


class Clients:
    """Each asks, and asks again."""

    def __init__(self, server: Server) -> None:
        self.server, self.statuses = server, Counter[int]()
        self._ended, self._threads = threading.Event(), list[threading.Thread]()

    def add(self, tokens: int, pause: float = 0.0) -> None:
        body = {"prompt": [9] * 8, "max_tokens": tokens, "ignore_eos": True}

        def ask() -> None:
            while not self._ended.wait(pause):
                self.statuses[self.server.ask("POST", "/v1/completions", body)] += 1

        self._threads.append(threading.Thread(target=ask))
        self._threads[-1].start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def asking(server: Server) -> Iterator[Clients]:
    clients = Clients(server)
    try:
        yield clients
    finally:
        clients.end()


def test_each_trouble_is_told_and_resolves(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    took: dict[str, float] = {}

    def begin(scene: Scene) -> None:
        scene.others[JOB] = f"127.0.0.1:{server.port}"

    try:
        with staged(tmp_path, begin) as scene:
            eventually(lambda: _up(scene) == 1, "the first scrape")
            _idle_then_used(scene, server)
            _overloaded(scene, server, took)
            _failing(scene, server, took)
            _stuck(scene, server, took)
            _gone(scene, server, took)
            told = {seen["alertname"]: who for who, seen, _ in scene.heard if seen["alertname"] in ALERTS}
    finally:
        server.kill()
    print("seconds from fault to alert:", {name: round(seconds) for name, seconds in took.items()})
    tickets = {"LehrServeSaturated": "tickets", "LehrServeSlow": "tickets", "LehrServeErrors": "tickets"}
    assert {name: tickets.get(name, "pager") for name in told} == told
    assert {*took} - {*told} <= {"LehrServeSlow", "LehrServeErrors"}, "kept quiet behind what else was wrong"


def _up(scene: Scene) -> float:
    found = fetch(f"{scene.prometheus}/api/v1/query?query=up%7Bjob%3D%22{JOB}%22%7D")["data"]["result"]
    return float(found[0]["value"][1]) if found else -1.0


def _told(scene: Scene, took: dict[str, float], alert: str, seconds: float = 90.0) -> None:
    took[alert] = eventually(partial(scene.firing, alert, job=JOB), f"{alert} fires", seconds)


def _well(scene: Scene, seconds: float = 90.0) -> None:
    eventually(lambda: not any(scene.states(alert) for alert in ALERTS), "all is well again", seconds)


def _idle_then_used(scene: Scene, server: Server) -> None:
    """Nothing is told of a server that nobody asks, of one in use, of a client's mistakes, and of a single failure."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        assert not any(scene.states(alert) for alert in ALERTS)
        time.sleep(0.5)
    with asking(server) as clients:
        clients.add(QUICK, 0.1)
        clients.add(0, 0.1)  # refused: an answer of no tokens
        end = time.monotonic() + 90  # what is usual is seen from a minute later on
        while time.monotonic() < end:
            assert not any(scene.states(alert) for alert in ALERTS)
            time.sleep(0.5)
    assert clients.statuses[200] > 250 and clients.statuses[400] > 250


def _overloaded(scene: Scene, server: Server, took: dict[str, float]) -> None:
    """One client more each second, and none goes before it is answered: first the queue grows, then it is full."""
    with asking(server) as clients:
        began = time.monotonic()
        while not scene.firing("LehrServeSaturated", job=JOB):
            assert time.monotonic() - began < 60, "more and more is asked, and nobody is told"
            clients.add(LONG)
            time.sleep(1.0)
        took["LehrServeSaturated"] = time.monotonic() - began
        assert scene.got("tickets", "LehrServeSaturated", job=JOB) or not clients.statuses[429]
        for _ in range(2 * WAITING):
            clients.add(LONG, 0.2)
        _told(scene, took, "LehrServeRefusing")
        eventually(partial(scene.suppressed, "LehrServeSaturated", job=JOB), "what follows is kept quiet")
        _told(scene, took, "LehrServeSlow")
        assert clients.statuses[429] > 10 and clients.statuses[0] == clients.statuses[500] == 0
    _well(scene)


def _failing(scene: Scene, server: Server, took: dict[str, float]) -> None:
    with asking(server) as clients:
        clients.add(QUICK, 0.1)
        with server.broken("fail"):
            _told(scene, took, "LehrServeFailing")
        assert clients.statuses[500] > 5
        eventually(lambda: not scene.states("LehrServeFailing"), "it resolves while requests are answered", 90)
    assert "illegal memory access" in (server.folder / "server.log").read_text(encoding="utf-8")


def _stuck(scene: Scene, server: Server, took: dict[str, float]) -> None:
    with asking(server) as clients:
        clients.add(QUICK, 0.1)
        with server.broken("hang"):
            _told(scene, took, "LehrServeStuck")
            assert _up(scene) == 1
    eventually(lambda: not scene.states("LehrServeStuck"), "it goes on")


def _gone(scene: Scene, server: Server, took: dict[str, float]) -> None:
    server.kill()
    _told(scene, took, "LehrServeDown")
    server.start()
    eventually(lambda: not scene.states("LehrServeDown"), "it is back")
    began = time.monotonic()
    while not scene.states("LehrServeRestarting"):
        assert time.monotonic() - began < 120
        server.kill()
        server.start()
        eventually(lambda: _up(scene) == 1, "it is scraped")
    _told(scene, took, "LehrServeRestarting")
