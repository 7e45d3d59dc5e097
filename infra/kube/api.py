"""The Kubernetes API as used here: verbs on paths, JSON in and out, errors with the server's reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from lehr.infra.kube.transport import MERGE, STRATEGIC, Reply, Request, Stream, Transport
from lehr.runtime.errors import InfraError

Object = dict[str, Any]
FORBIDDEN, ABSENT = 403, 404  # status of an ApiError
PAGE = "500"  # objects in one response: bounds its size, as client-go does
NODES = "/api/v1/nodes"


class ApiError(InfraError):
    """The server refused. `reason` is the API's (Conflict, Forbidden, Expired ...)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (ApiError, (self.status, self.reason, self.message, self.retry_after))


@dataclass(frozen=True)
class Watch:
    """An open watch: yields the events' (type, object). An ERROR event raises ApiError, a broken stream InfraError."""

    stream: Stream

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        for line in self.stream:
            try:
                event = json.loads(line)
                kind, found = str(event["type"]), event["object"]
            except (ValueError, KeyError, TypeError) as error:
                raise InfraError("the watch sent something that is not an event") from error
            if kind == "ERROR":
                raise ApiError(int(found.get("code") or 500), str(found.get("reason", "")), str(found.get("message", "")))
            yield kind, found

    def close(self) -> None:
        self.stream.close()


class Api:
    """`observe` is called for every answered request with method, path and status, for the metrics."""

    def __init__(self, transport: Transport, observe: Callable[[str, str, int], None] | None = None) -> None:
        self._transport = transport
        self._observe = observe or (lambda method, path, status: None)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        return self._json(Request("GET", path, query or {}))

    def text(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """What is no JSON: a container's log."""
        return self._send(Request("GET", path, query or {})).body.decode("utf-8", "replace")

    def date(self) -> float | None:
        """The server's clock in Unix seconds, to the second; None if its answers have none."""
        headers = {name.lower(): value for name, value in self._send(Request("GET", "/version")).headers.items()}
        said = parsedate_tz(headers.get("date", ""))
        return None if said is None else mktime_tz(said)

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Object]:
        """A consistent list in pages of 500 (each a List object). Raises ApiError 410 if its snapshot expires meanwhile."""
        asked = {**(query or {}), "limit": PAGE}
        while True:
            page = self.get(path, asked)
            yield page
            more = page.get("metadata", {}).get("continue")
            if not more:
                return
            asked["continue"] = more

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        return [item for page in self.pages(path, query) for item in page.get("items") or []]

    def types(self, group: str) -> set[str]:
        """The resources of an API group, as `pods` or `pods/log`; empty where the cluster does not have the group."""
        try:
            found = self.get(f"/apis/{group}")
        except ApiError as error:
            if error.status == ABSENT:
                return set()
            raise
        return {str(item.get("name", "")) for item in found.get("resources") or []}

    def watch(self, path: str, version: str, query: Mapping[str, str], seconds: int) -> Watch:
        asked = {
            **query,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        reply, stream = self._transport.open(Request("GET", path, asked))
        self._observe("WATCH", path, reply.status)
        if stream is None:
            raise _error(reply)
        return Watch(stream)

    def create(self, path: str, body: Object, read_seconds: float = 20.0) -> Object:
        return self._json(Request("POST", path, body=body, read_seconds=read_seconds))

    def replace(self, path: str, body: Object) -> Object:
        return self._json(Request("PUT", path, body=body))

    def merge(self, path: str, body: Object) -> Object:
        """JSON merge patch: null removes, a list replaces the whole list. With metadata.resourceVersion, 409 if it is stale."""
        return self._json(Request("PATCH", path, body=body, content_type=MERGE))

    def strategic(self, path: str, body: Object) -> Object:
        """Strategic merge patch: conditions are merged by their type."""
        return self._json(Request("PATCH", path, body=body, content_type=STRATEGIC))

    def delete(self, path: str, uid: str, propagation: str = "Background") -> Object:
        """Delete exactly the object with this uid: 409 if another one has its name by now."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        return self._json(Request("DELETE", path, body=body))

    def _json(self, request: Request) -> Object:
        reply = self._send(request)
        try:
            found = json.loads(reply.body)
        except ValueError as error:
            raise InfraError(f"{request.method} {request.path}: the answer is not JSON") from error
        if not isinstance(found, dict):
            raise InfraError(f"{request.method} {request.path}: the answer is not an object")
        return found

    def _send(self, request: Request) -> Reply:
        reply = self._transport.send(request)
        self._observe(request.method, request.path, reply.status)
        if reply.status >= 300:
            raise _error(reply)
        return reply


def _error(reply: Reply) -> ApiError:
    try:
        status = json.loads(reply.body)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", reply.body[:200].decode("utf-8", "replace").strip()
    wait = reply.headers.get("Retry-After", "")
    return ApiError(reply.status, reason, message, float(wait) if wait.isdigit() else None)
