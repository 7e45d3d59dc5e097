"""Requests and answers over HTTP: who may ask, what is too large, which status an error has."""

from __future__ import annotations

import hmac
import io
import json
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from lehr.runtime.errors import Bug, InfraError, LehrError
from lehr.serving import counts
from lehr.serving.bodies import Chat, Completion, Load, Refused, parsed
from lehr.serving.endpoints import chat, completion
from lehr.serving.engine import Engine, Full
from lehr.serving.job import Gone, Job
from lehr.serving.listening import LOG, WRITE_SECONDS, Deadline, Listener
from lehr.serving.weights import Weights

MAX_BYTES = 8 * 2**20  # of a request's body
_DISCARDED = (
    64 * 2**20
)  # of a body that is refused: so much is read, within a request's time, so that its client gets the answer
_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_POSTS = ("/v1/completions", "/v1/chat/completions", "/v1/load")  # chat, completions, ... in metrics
_GETS = ("/health", "/metrics", "/v1/models")
_OPERATIONS = {path: path.removeprefix("/v1/").partition("/")[0] for path in (*_POSTS, *_GETS)}


@dataclass(frozen=True)
class Service:
    """What is served: the engine, the model's `name`, where weights may come from, and the exporter's `metrics` for an Accept
    header. Whoever asks must know `token`, unless it is empty; then a request must name this machine, as only its own do."""

    engine: Engine
    name: str
    weights: Weights
    metrics: Callable[[str], tuple[str, bytes]]
    token: str = ""
    created: int = 0

    def models(self) -> dict[str, Any]:
        """The one model that there is."""
        entry = {"id": self.name, "object": "model", "created": self.created, "owned_by": "lehr"}
        entry |= {"max_model_len": self.engine.model.max_length, "weights": self.weights.loaded}
        return {"object": "list", "data": [entry]}


def status_of(error: Exception) -> tuple[int, str]:
    """The HTTP status of an error, and OpenAI's type for it."""
    if isinstance(error, Refused):
        kind = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
        return error.status, kind.get(error.status, "invalid_request_error")
    if isinstance(error, Full):
        return 429, "rate_limit_error"
    return (503 if isinstance(error, InfraError) else 500), "server_error"


def error_body(error: Exception) -> dict[str, Any]:
    """OpenAI's form of an error. Of a fault of ours it says no more than its kind."""
    status, kind = status_of(error)
    param = error.param or None if isinstance(error, Refused) else None
    known = isinstance(error, LehrError)
    message = (f"{param}: {error.what}" if param else error.what) if isinstance(error, Refused) else str(error)
    return {"error": {"message": message if known else "internal error", "type": kind, "param": param, "code": status}}


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    """The request handler of the listeners; what it counts stands at 0 from now on."""

    class Handler(_Handler):
        pass

    Handler.service = service
    counts.begin()
    return Handler


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lehr", ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(WRITE_SECONDS)
        self._deadline = Deadline(self.connection)
        self.rfile = io.BufferedReader(self._deadline)
        self._begun = self._read = False

    def handle_one_request(self) -> None:
        self._deadline.renew()
        self._begun = self._read = False
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, work: Callable[[str], None]) -> None:
        path, began = self.path.partition("?")[0], time.monotonic()
        operation = _OPERATIONS.get(path, "other")
        code = 200
        try:
            self._admit(path)
            work(path)
        except (Gone, OSError):
            code, self.close_connection = 499, True  # nobody is there to hear it
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told, and no traceback is sent
            code = status_of(error)[0]
            if not isinstance(error, LehrError) or isinstance(error, Bug):
                LOG.error("%s failed: %s", operation, " ".join(repr(error).split())[:500])
            self._tell(error, code)
        counts.REQUESTS.add(1, operation=operation, code=str(code))
        if path in _POSTS:
            counts.REQUEST_SECONDS.add(time.monotonic() - began, operation=operation)

    def _admit(self, path: str) -> None:
        """Raises Refused for whoever may not ask, and Full on a spare connection for what takes long."""
        token = self.service.token
        if not token:
            # Else a page of anybody's could have its own domain lead here and read answers (DNS rebinding).
            hosts = self.headers.get_all("Host") or []
            if len(hosts) != 1 or not _is_local(hosts[0]):
                raise Refused("this server answers requests to this machine's own name: http://127.0.0.1", status=403)
        elif path != "/health":
            given = (self.headers.get("Authorization") or "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                raise Refused("a bearer token is needed: the one in the server's LEHR_SERVE_TOKEN", status=401)
        assert isinstance(self.server, Listener)
        connections = self.server.connections
        if connections.spare(self.connection):
            self.close_connection = True
            if path not in ("/health", "/metrics"):
                raise Full(f"{connections.limit} connections are open, and the server keeps no more")

    def _get(self, path: str) -> None:
        if path == "/v1/models":
            self._send_json(200, self.service.models())
        elif path == "/metrics":
            kind, text = self.service.metrics(self.headers.get("Accept", ""))
            self._send(200, kind, text)
        elif path == "/health":
            alive = self.service.engine.alive
            self._send_json(200 if alive else 503, {"status": "ok" if alive else "not decoding"})
        else:
            status = 405 if path in _POSTS else 404
            raise Refused("this is asked for with POST" if status == 405 else f"there is no {path[:100]!r} here", status=status)

    def _post(self, path: str) -> None:
        if path not in _POSTS:
            status = 405 if path in _GETS else 404
            raise Refused("this is asked for with GET" if status == 405 else f"there is no {path[:100]!r} here", status=status)
        raw = self._body()
        if path == "/v1/load":
            self._load(parsed(Load, raw))
            return
        service = self.service
        job: Job
        if path == "/v1/completions":
            body = parsed(Completion, raw)
            self._check_model(body.model)
            job = completion(body, service.engine, service.name)
        else:
            asked = parsed(Chat, raw)
            self._check_model(asked.model)
            job = chat(asked, service.engine, service.name)
        job.begin()
        if job.asked.body.stream:
            self._stream(job)
        else:
            self._send_json(200, job.whole(self._gone))

    def _load(self, asked: Load) -> None:
        try:
            self.service.weights.load(asked.path)
        except Exception:
            counts.LOADS.add(1, outcome="refused")
            raise
        counts.LOADS.add(1, outcome="loaded")
        self._send_json(200, {"object": "weights", "path": asked.path})

    def _check_model(self, name: str) -> None:
        if name not in ("", self.service.name):
            raise Refused(f"there is no model {name[:100]!r} here, but {self.service.name!r}", "model", status=404)

    def _body(self) -> bytes:
        """The body of a request. Raises Refused for one without a length, too large, or of another type: a page of another
        server's cannot have a browser send JSON here without asking first, which is refused."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refused("a request has a body of JSON and its Content-Length", status=411)
        if int(length[:12]) > MAX_BYTES:
            raise Refused(f"a request has at most {MAX_BYTES} bytes", status=413)
        raw, self._read = self.rfile.read(int(length)), True
        if len(raw) < int(length):
            raise Gone
        if self.headers.get_content_type() != "application/json":
            raise Refused("a request has a body of JSON: Content-Type: application/json", status=415)
        return raw

    def _stream(self, job: Job) -> None:
        """Server-sent events. An error after the first one is an event too, as the status has been sent."""
        parts = job.parts(self._gone)
        self.close_connection = self._begun = True
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in parts:
                self._event(json.dumps(part, ensure_ascii=False, allow_nan=False))
            self._event("[DONE]")
        finally:
            parts.close()  # type: ignore[attr-defined]  # a client that is gone frees its rows

    def _event(self, text: str) -> None:
        self.wfile.write(f"data: {text}\n\n".encode())

    def _tell(self, error: Exception, code: int) -> None:
        try:
            self._discard()
            if self._begun:
                self._event(json.dumps(error_body(error)))
            else:
                self._send_json(code, error_body(error))
        except OSError:
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself: no HTTP, heads that are too long, other methods."""
        status = 405 if code == 501 else code
        self.close_connection = True
        self._send_json(status, error_body(Refused(message or "this is no request", status=status)))
        counts.REQUESTS.add(1, operation="other", code=str(status))

    def _discard(self) -> None:
        """Read what of the body was not read: it is no request, and a connection that is closed with it loses the answer."""
        length = self.headers.get("Content-Length", "0")
        if self._read or length == "0":
            return
        self.close_connection = True
        left = min(int(length[:12]), _DISCARDED) if length.isascii() and length.isdigit() else 0
        while left > 0 and (piece := self.rfile.read(min(left, 2**16))):
            left -= len(piece)

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value, ensure_ascii=False, allow_nan=False).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self._begun = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 429:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def _gone(self) -> bool:
        """Whether the client has hung up. What it has sent beyond its request stays where it is."""
        try:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def log_message(self, format: str, *args: object) -> None:
        return None  # a prompt may be in it


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine's loopback."""
    bare = host.strip().lower()
    name, colon, port = bare.rpartition(":")
    if not colon or bare.endswith("]"):
        return bare in _NAMES
    return name in _NAMES and port.isascii() and port.isdigit()
