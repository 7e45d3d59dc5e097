"""Counts of a store's requests, by boto3's own events: how many, how they ended, how long they took, how often sent again."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from lehr.monitoring.metrics.run import STORE_SECONDS
from lehr.runtime.counters import declare

REQUESTS = declare("store_requests", ("operation", "outcome"))
RETRIES = declare("store_retries", ("operation",))
SECONDS = declare("store_request_seconds", ("operation",), STORE_SECONDS.buckets)
BYTES = declare("store_bytes", ("direction",))
_BEGAN = "lehr_began"  # a key in boto3's context of one request
_KNOWN = {
    "PutObject": "put",
    "GetObject": "get",
    "HeadObject": "head",
    "HeadBucket": "head",
    "ListObjectsV2": "list",
    "DeleteObject": "delete",
    "DeleteObjects": "delete",
    "UploadPart": "upload_part",
}


def watch(client: Any) -> None:
    """Count the requests of `client`. A request that boto3 sends again counts once, with its retries beside it."""
    events = client.meta.events
    events.register("before-call.s3", _begins)
    events.register("needs-retry.s3", _judged)
    events.register("after-call.s3", _ends)
    events.register("after-call-error.s3", _fails)


def _operation(event_name: str) -> str:
    """The label of a request; rare ones, such as those that begin and end uploads, are `other`."""
    return _KNOWN.get(event_name.rpartition(".")[2], "other")


def _begins(context: dict[str, Any], **_: Any) -> None:
    context[_BEGAN] = perf_counter()


def _judged(event_name: str, attempts: int, **_: Any) -> None:
    """After each time that the request was sent; only whoever answers something else than None changes what boto3 does."""
    if attempts > 1:
        RETRIES.add(1, operation=_operation(event_name))


def _ends(event_name: str, context: dict[str, Any], parsed: dict[str, Any], **_: Any) -> None:
    status = int(parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    _count(event_name, context, "ok" if status < 300 else "refused" if status < 500 else "failed")


def _fails(event_name: str, context: dict[str, Any], **_: Any) -> None:
    _count(event_name, context, "unreachable")


def _count(event_name: str, context: dict[str, Any], outcome: str) -> None:
    label = _operation(event_name)
    REQUESTS.add(1, operation=label, outcome=outcome)
    SECONDS.add(perf_counter() - context.get(_BEGAN, perf_counter()), operation=label)
