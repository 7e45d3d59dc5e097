"""A layer between the controller and the API server that loses, doubles, delays, refuses and kills, by a seeded plan."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lehr.infra.kube.transport import Reply, Request, Stream, Transport
from lehr.runtime.errors import InfraError


class Crash(BaseException):
    """The process dies here: nothing after this point happens."""


@dataclass
class Plan:
    """Chances per request or event, and how many faults at most: a fault that never ends is not one to recover from."""

    seed: int = 0
    statuses: tuple[int, ...] = ()  # refuse requests with these
    after: float = 0.0  # chance that a refused write is applied all the same
    refuse: float = 0.0
    reset: float = 0.0  # the connection breaks; half of the time after the request was served
    slow_seconds: float = 0.0
    crash_at: int = -1  # the process dies at the n-th request of the loop
    crash_on: str = ""  # ... or at its first request of this method
    crash_after: bool = False
    drop: float = 0.0  # watch events lost
    double: float = 0.0
    reorder: float = 0.0
    expire: float = 0.0  # a 410 in the middle of a watch
    cut: float = 0.0  # the watch ends
    most: int = 12


@dataclass
class Faulty:
    """`fired` counts the faults that really happened, by kind."""

    inner: Transport
    plan: Plan
    fired: Counter[str] = field(default_factory=Counter)
    dead: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._random = random.Random(self.plan.seed)
        self._lock = threading.Lock()
        self._requests = 0
        self._left = self.plan.most

    def _roll(self, chance: float, kind: str) -> bool:
        if chance <= 0:
            return False
        with self._lock:
            if self._left <= 0 or self._random.random() >= chance:
                return False
            self._left -= 1
            self.fired[kind] += bool(kind)
            return True

    def _count(self, request: Request) -> int:
        """Number of this request among the loop's; those of the election are not counted, they come by the clock."""
        if self.dead.is_set():
            raise Crash
        if "/leases/" in request.path:
            return -2
        with self._lock:
            self._requests += 1
            return self._requests - 1

    def _die(self, kind: str) -> None:
        self.fired[kind] += 1
        self.dead.set()
        raise Crash

    def send(self, request: Request) -> Reply:
        number, plan = self._count(request), self.plan
        here = number >= 0 and (number == plan.crash_at or request.method == plan.crash_on)
        if here and not plan.crash_after:
            self._die(f"killed before {request.method}")
        if plan.slow_seconds and self._roll(0.3, "slow"):
            time.sleep(plan.slow_seconds)
        lease = "/leases/" in request.path
        if not lease and plan.statuses and self._roll(plan.refuse, ""):
            return self._refused(request)
        if not lease and self._roll(plan.reset, "reset"):
            if self._random.random() < 0.5:
                self.inner.send(request)
            raise InfraError("connection reset by the test")
        reply = self.inner.send(request)
        if here:
            self._die(f"killed after {request.method}")
        return reply

    def _refused(self, request: Request) -> Reply:
        status = self._random.choice(self.plan.statuses)
        if request.method != "GET" and self._random.random() < self.plan.after:
            self.inner.send(request)
        self.fired[str(status)] += 1
        headers = {"Retry-After": "1"} if status == 429 and self._random.random() < 0.3 else {}
        return Reply(status, headers, json.dumps({"reason": "Injected", "message": "by the test", "code": status}).encode())

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        if self.dead.is_set():
            raise Crash
        if self.plan.expire and self._roll(self.plan.expire, "410"):
            return Reply(410, {}, b'{"reason":"Expired","message":"too old"}'), None
        reply, stream = self.inner.open(request)
        return reply, None if stream is None else _Events(stream, self)


@dataclass
class _Events:
    stream: Stream
    faulty: Faulty

    def __iter__(self) -> Iterator[bytes]:
        roll, plan = self.faulty._roll, self.faulty.plan
        held: bytes | None = None
        for line in self.stream:
            if self.faulty.dead.is_set():
                raise Crash
            if roll(plan.drop, "event lost"):
                continue
            if roll(plan.expire, "410 in a watch"):
                yield b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}'
                return
            if roll(plan.cut, "watch cut"):
                self.stream.close()
                return
            if held is None and roll(plan.reorder, "event late"):
                held = line
                continue
            yield line
            if roll(plan.double, "event doubled"):
                yield line
            if held is not None:
                yield held
                held = None

    def close(self) -> None:
        self.stream.close()
