"""What all calls of the double of flyteadmin share: refusals, times, and lists with filters, order and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

PROJECT, DOMAIN = "lehr", "development"
T = TypeVar("T")
Fields = Mapping[str, str | float]


class Refused(Exception):
    """The answer to a call that flyteadmin refuses too: a gRPC code, its message, and a detail for programs."""

    def __init__(self, code: grpc.StatusCode, message: str, detail: Message | None = None) -> None:
        super().__init__(message)
        self.code, self.detail = code, detail

    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        """What goes beside code and message."""
        if self.detail is None:
            return ()
        status = status_pb2.Status(code=self.code.value[0], message=str(self))
        status.details.add().Pack(self.detail)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def invalid(message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def missing(message: str) -> Refused:
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def now() -> Timestamp:
    made = Timestamp()
    made.GetCurrentTime()
    return made


def seconds(stamp: Timestamp) -> float:
    return float(stamp.seconds + stamp.nanos / 1e9)


def check_place(project: str, domain: str) -> None:
    """There is one project with one domain."""
    if (project, domain) != (PROJECT, DOMAIN):
        raise invalid(f"failed to validate that project [{project}] and domain [{domain}] are registered")


def page(found: Sequence[T], request: Any, fields: Callable[[T], Fields]) -> tuple[list[T], str]:
    """Of `found` what `request` asks for, and the token of the next page: empty, if there is none."""
    chosen = [item for item in found if _matches(fields(item), request.filters if hasattr(request, "filters") else "")]
    key = request.sort_by.key
    if key:
        if chosen and key not in fields(chosen[0]):
            raise invalid(f"invalid sort key '{key}'")
        chosen.sort(key=lambda item: fields(item)[key], reverse=request.sort_by.direction == 0)
    if request.token and not request.token.isdigit():
        raise invalid(f"invalid pagination token {request.token}")
    start, limit = int(request.token or 0), request.limit or len(chosen)
    rest = chosen[start : start + limit]
    return rest, str(start + len(rest)) if request.limit and len(rest) == request.limit else ""


def _matches(fields: Fields, filters: str) -> bool:
    """Filters are like eq(version,v1)+value_in(phase,RUNNING;QUEUED)."""
    for text in filter(None, filters.split("+")):
        read = re.fullmatch(r"(eq|ne|contains|value_in)\(([a-z_.]+),(.*)\)", text)
        if read is None or read[2] not in fields:
            raise invalid(f"the double of flyteadmin does not know the filter {text}")
        kind, value, wanted = read[1], str(fields[read[2]]), read[3]
        holds = wanted in value if kind == "contains" else value in wanted.split(";") if kind == "value_in" else value == wanted
        if holds is (kind == "ne"):
            return False
    return True
