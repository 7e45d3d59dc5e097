"""The one thread that decodes: requests join its rows as they come and leave when they are answered.

Other threads hand it tickets and read what it puts into their queues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from lehr.model.generate import LanguageModel
from lehr.model.online import OnlineDecoder, Picked, Row, Sampling
from lehr.model.packed import packed
from lehr.runtime.errors import Bug, InfraError, LehrError
from lehr.serving import counts

LOG = logging.getLogger("lehr.serving")
_PREFILL_TOKENS = 8192  # padded tokens of prompts that join together; a longer one joins alone
_PACK_ROWS, _PACK_STEPS = 16, 1024  # see lehr.model.packed.packed


@dataclass(frozen=True)
class End:
    """An answer is over: at a stop token, at its limit, because nobody wants it any more, or with `error`."""

    reason: Literal["stop", "length", "cancelled", "error"]
    error: LehrError | None = None


@dataclass(eq=False)
class Ticket:
    """One answer that is asked for: `index` of its request's. Its tokens, up to and including one of `stops`, and its end go
    into `events`. Set `cancelled` to free its row; `stopped` beside it, where its text held a stop text."""

    index: int
    prompt: Sequence[int]
    sampling: Sampling
    limit: int
    stops: frozenset[int]
    events: SimpleQueue[tuple[int, Picked | End]]
    cancelled: bool = False
    stopped: bool = False
    count: int = 0
    asked: float = field(default_factory=time.monotonic)
    newest: float = 0.0  # when its last token came


@dataclass(eq=False)
class _Call:
    """Work for the decoding thread between two tokens; `alone`: when no answer is in the making."""

    work: Callable[[], Any]
    alone: bool
    future: Future[Any] = field(default_factory=Future)


class Full(LehrError):
    """More is waiting than the server is willing to keep: ask again later."""


class Engine:
    """Decodes at most `rows` answers at once for `model`; at most `waiting` tickets wait. Work is begun in the order in which
    it came."""

    def __init__(self, model: LanguageModel, rows: int, waiting: int) -> None:
        self.model, self.max_rows, self.max_waiting = model, rows, waiting
        self._decoder = self._fresh()
        self._active: dict[Row, Ticket] = {}
        self._joining = 0
        self._queue: deque[Ticket | _Call] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Answers that have a row: they are decoded now, or their prompts are read."""
        return len(self._active) + self._joining

    @property
    def waiting(self) -> int:
        """Tickets that no row is free for."""
        return sum(isinstance(one, Ticket) for one in list(self._queue))

    @property
    def cached_tokens(self) -> int:
        """Tokens of prompts and answers whose keys and values are held: all but each answer's newest."""
        return sum(len(row.prompt) + ticket.count - 1 for row, ticket in list(self._active.items()))

    @property
    def cache_bytes(self) -> int:
        """Memory that is allocated for keys and values, in use or not."""
        return self._decoder.cache_bytes

    @property
    def alive(self) -> bool:
        """Whether the thread is there to answer."""
        return self._thread.is_alive() and not self._closing

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue all of these. Raises Full, and queues none, where the queue has no room for them; InfraError when closed."""
        with self._changed:
            if self._closing:
                raise InfraError("the server is ending")
            if len(self._queue) + len(tickets) > self.max_waiting:
                raise Full(f"{len(self._queue)} answers are waiting, and the queue holds {self.max_waiting}")
            self._queue.extend(tickets)
            self._changed.notify()

    def call(self, work: Callable[[], Any], *, alone: bool = False) -> Any:
        """Have the decoding thread do `work` when its turn comes, and return its result; `alone`: once every answer that was
        begun is complete, and before any other begins. Raises what `work` raises, Full and InfraError as `submit` does."""
        call = _Call(work, alone)
        with self._changed:
            if self._closing:
                raise InfraError("the server is ending")
            if len(self._queue) >= self.max_waiting:
                raise Full(f"{len(self._queue)} answers are waiting, and the queue holds {self.max_waiting}")
            self._queue.append(call)
            self._changed.notify()
        return call.future.result()

    def renew(self) -> None:
        """Take over weights that were changed in place. Only inside a call that is `alone`."""
        self._decoder = self._fresh()

    def close(self) -> None:
        """End the thread; whatever is not answered ends in an error."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _fresh(self) -> OnlineDecoder:
        network = packed(self.model.model, min(self.max_rows, _PACK_ROWS), _PACK_STEPS)
        return OnlineDecoder(network, self.model.tokenizer.pad_id)

    # -- the decoding thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._active or self._queue)
                if self._closing:
                    break
                joining, call = self._admitted()
                self._joining = len(joining)
            if call is not None:
                _perform(call)
            try:
                self._drop_cancelled()
                if joining:
                    self._join(joining)
                if self._active:
                    self._hand_out(self._decoder.rows, self._decoder.step())
            except Exception as error:  # noqa: BLE001 - told to every request that it concerns; the server goes on
                self._fail(_owned(error), joining)
        self._fail(InfraError("the server is ending"), [])
        for waiting in self._queue:
            if isinstance(waiting, Ticket):
                _end(waiting, End("error", InfraError("the server is ending")))
            else:
                waiting.future.set_exception(InfraError("the server is ending"))

    def _admitted(self) -> tuple[list[Ticket], _Call | None]:
        """What begins now: a call, or as many tickets as there are rows for."""
        joining: list[Ticket] = []
        width = 0
        while self._queue:
            head = self._queue[0]
            if isinstance(head, _Call):
                if joining or (head.alone and self._active):
                    break
                self._queue.popleft()
                return [], head
            if head.cancelled:
                self._queue.popleft()
                _end(head, End("cancelled"))
                continue
            width = max(width, len(head.prompt))
            full = len(self._active) + len(joining) >= self.max_rows
            if full or (joining and width * (len(joining) + 1) > _PREFILL_TOKENS):
                break
            self._queue.popleft()
            joining.append(head)
        return joining, None

    def _join(self, tickets: list[Ticket]) -> None:
        began = time.monotonic()
        rows = [Row(ticket.prompt, ticket.sampling) for ticket in tickets]
        picked = self._decoder.join(rows)
        self._joining = 0
        self._active.update(zip(rows, tickets, strict=True))
        for ticket in tickets:
            counts.QUEUE_SECONDS.add(began - ticket.asked)
            counts.PROMPT_TOKENS.add(len(ticket.prompt))
            counts.FIRST_TOKEN_SECONDS.add(time.monotonic() - ticket.asked)
        self._hand_out(rows, picked)

    def _hand_out(self, rows: Sequence[Row], picked: Sequence[Picked]) -> None:
        """Give each row's ticket its token; rows that are done leave."""
        counts.TOKENS.add(len(picked))
        now, gaps = time.monotonic(), Counter[float]()  # rows that were decoded together waited alike
        for row, one in zip(list(rows), picked, strict=True):
            ticket = self._active[row]
            if ticket.count:
                gaps[now - ticket.newest] += 1
            ticket.newest = now
            ticket.count += 1
            ticket.events.put((ticket.index, one))
            if one.token in ticket.stops:
                self._finish(row, End("stop"))
            elif ticket.count >= ticket.limit:
                self._finish(row, End("length"))
        for seconds, times in gaps.items():
            counts.TOKEN_SECONDS.add(seconds, times)

    def _finish(self, row: Row, end: End) -> None:
        ticket = self._active.pop(row)
        self._decoder.leave(row)
        _end(ticket, end)

    def _drop_cancelled(self) -> None:
        for row in [row for row, ticket in self._active.items() if ticket.cancelled]:
            self._finish(row, End("cancelled"))

    def _fail(self, error: LehrError, joining: list[Ticket]) -> None:
        """End every answer in the making, and those that were about to begin, with `error`."""
        for ticket in {*self._active.values(), *joining}:
            _end(ticket, End("error", error))
        self._active.clear()
        self._joining = 0
        self._decoder = OnlineDecoder(self._decoder.model, self._decoder.pad)


def _end(ticket: Ticket, end: End) -> None:
    counts.ANSWERS.add(1, reason="stop" if ticket.stopped else end.reason)
    ticket.events.put((ticket.index, end))


def _perform(call: _Call) -> None:
    try:
        call.future.set_result(call.work())
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        call.future.set_exception(error)


def _owned(error: Exception) -> LehrError:
    if isinstance(error, LehrError):
        return error
    LOG.error("decoding failed: %s", " ".join(repr(error).split())[:500])
    return Bug(f"{type(error).__name__} while decoding")
