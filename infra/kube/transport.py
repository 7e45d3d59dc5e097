"""Requests to the Kubernetes API as raw JSON, with configuration, TLS and credentials from the `kubernetes` client.

The client's generated models reject some objects that the server has already accepted (a patch that was applied then raises),
so they are not used here. Tests put a layer that injects faults between `Api` and `KubernetesTransport`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from lehr.runtime.errors import InfraError, UserError

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
CONNECT_SECONDS, READ_SECONDS = 3.0, 20.0
SILENCE_SECONDS = 120.0  # longer than a watch is asked to last (watch.py): a stream silent for longer is dead


@dataclass(frozen=True)
class Request:
    """One request. `body` is JSON data or None; a PATCH gives its kind in `content_type`."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    read_seconds: float = READ_SECONDS


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream(Protocol):
    """The lines of a watch. `close` may be called from another thread and ends the iteration."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class Transport(Protocol):
    def send(self, request: Request) -> Reply:
        """The answer, whatever its status. Raises OSError or InfraError if there is none."""
        ...

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        """Begin a watch. The stream is None unless the status is 200. Raises as `send`."""
        ...


class _Lines:
    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        try:
            for chunk in self._response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line)
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed.is_set():
                raise InfraError(f"the watch broke: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        self._closed.set()
        try:
            self._response.shutdown()
        except (ValueError, OSError, RuntimeError):  # it has ended by itself
            self._response.close()


class KubernetesTransport:
    """Connections to one API server, kept open. Thread-safe."""

    def __init__(self, configuration: Any, connections: int = 32) -> None:
        from kubernetes.client import ApiClient

        configuration.retries = False  # the callers decide about retries: the object may have changed
        configuration.connection_pool_maxsize = connections
        self._client = ApiClient(configuration)
        self._pool = self._client.rest_client.pool_manager
        self._host = str(configuration.host).rstrip("/")

    def send(self, request: Request) -> Reply:
        response = self._call(request, stream=False)
        return Reply(response.status, response.headers, response.data)

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        response = self._call(request, stream=True)
        if response.status != 200:
            reply = Reply(response.status, response.headers, response.data)
            response.close()
            return reply, None
        return Reply(200, response.headers, b""), _Lines(response)

    def close(self) -> None:
        self._pool.clear()

    def _call(self, request: Request, *, stream: bool) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json, */*", "User-Agent": "lehr"}
        # Fetched for every request: the client's hook may renew the bearer token at any time.
        self._client.update_params_for_auth(headers, [], ["BearerToken"], request.path, request.method, None)
        body = None
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            body = json.dumps(request.body, separators=(",", ":")).encode()
        url = self._host + request.path + (f"?{urlencode(request.query)}" if request.query else "")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS if stream else request.read_seconds)
        try:
            response: urllib3.BaseHTTPResponse = self._pool.request(
                request.method, url, body=body, headers=headers, timeout=timeout, preload_content=not stream, retries=False
            )
        except HTTPError as error:
            raise InfraError(f"{self._host} does not answer: {_short(error)}") from error
        return response


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def connect(kubeconfig: Path | None = None, context: str | None = None) -> KubernetesTransport:
    """A transport with the pod's service account, otherwise with the kubeconfig. Raises UserError if neither is usable."""
    from kubernetes import config
    from kubernetes.client import Configuration

    configuration = Configuration()
    try:
        if kubeconfig is None and context is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
                return KubernetesTransport(configuration)
            except config.ConfigException:
                pass
        path = str(kubeconfig) if kubeconfig is not None else None
        config.load_kube_config(config_file=path, context=context, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"no usable configuration for a cluster: {_short(error)}",
            where=kubeconfig or "",
            remedy="set KUBECONFIG, or give --kubeconfig FILE and --context NAME",
        ) from error
    return KubernetesTransport(configuration)


def namespace_of(kubeconfig: Path | None = None, context: str | None = None) -> str:
    """The namespace of the kubeconfig's context, `default` if it has none."""
    from kubernetes import config

    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig is not None else None)
    except (config.ConfigException, OSError, TypeError):
        return "default"
    chosen = next((c for c in contexts if c["name"] == context), active) if context else active
    return str(chosen["context"].get("namespace") or "default")
