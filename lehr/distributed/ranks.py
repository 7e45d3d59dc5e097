"""Data-parallel ranks: rank 0 is this process, the others are forked from a server process that has torch loaded.

Under torchrun or Flyte's Elastic task the ranks exist already and follow rank 0 (`process_group.py`). Ranks of one machine
listen on loopback only; several machines use the network that their launcher configures. If rank 0 is killed, the others end.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lehr.distributed.host_paths import with_local_paths
from lehr.distributed.metering import metered
from lehr.distributed.process_group import TIMEOUT, LaunchedGroup, as_lehr_error, backend, lost_a_peer, stay_on_loopback
from lehr.distributed.rank_launcher import lead_or_follow
from lehr.distributed.serialization import all_gathered
from lehr.distributed.shared_memory_reduce import SharedMemoryReduce
from lehr.runtime.errors import InfraError, LehrError
from lehr.runtime.hardware import keep_freed_memory
from lehr.runtime.rank_environment import launched

T = TypeVar("T")
_LARGE = 65_536  # elements from which a reduction is faster through shared memory


@dataclass
class Ranks:
    """This process's rank among the data-parallel ones, and the collectives between them.

    `peers_alive` is set if all ranks are on this host: large sums then go through shared memory.
    """

    rank: int = 0
    world: int = 1
    peers_alive: Callable[[], bool] | None = None
    _shared: dict[int, SharedMemoryReduce] = field(
        default_factory=dict, repr=False
    )  # by size: each trained model's gradients have their own buffers

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Add `tensor` over all ranks, in place. With one rank nothing happens."""
        if self.world == 1:
            return
        if self.peers_alive is None or not _through_memory(tensor):
            dist.all_reduce(tensor)
            return
        size = tensor.numel()
        if size not in self._shared:
            self._shared[size] = SharedMemoryReduce(size, self.rank, self.world, self.peers_alive)
        self._shared[size].sum_(tensor)

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, in rank order, on every rank: plain values and CPU tensors (lehr.distributed.serialization)."""
        if self.world == 1:
            return [value]
        return all_gathered(value, self.world)

    def split(self, items: list[T]) -> list[T]:
        """This rank's share of `items`: numbers rank, rank + world, ..."""
        return items[self.rank :: self.world]

    def join(self, parts: list[list[T]]) -> list[T]:
        """The inverse of `split`: interleave the ranks' lists into the original order."""
        out: list[T] = []
        for i in range(max(map(len, parts), default=0)):
            out.extend(part[i] for part in parts if i < len(part))
        return out


def _through_memory(tensor: Tensor) -> bool:
    """Whether summing `tensor` over ranks of one host is faster through shared memory."""
    large = tensor.numel() >= _LARGE and tensor.dtype == torch.float32
    return large and tensor.device.type == "cpu" and SharedMemoryReduce.possible()


def run_ranks(world: int, threads: int, body: Callable[..., T], *arguments: Any) -> T:
    """Call `body(ranks, *arguments)` on every rank and return rank 0's result.

    `body` and `arguments` are pickled for the other ranks; rank 0's may contain what cannot be pickled (see `Local`).
    Raises the error of the rank that failed first, or InfraError if a rank died without reporting one.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    if launched():
        return lead_or_follow(lambda: _send(world, threads, body, arguments))
    if world == 1:
        return body(Ranks(), *arguments)
    stay_on_loopback()
    store = _loopback_store(world)
    helpers = [
        _start_helper(_Seat(rank, world, threads, store.port, dict(os.environ)), body, arguments) for rank in range(1, world)
    ]
    try:
        _await(store, helpers)
        dist.init_process_group(backend(), store=store, rank=0, world_size=world, timeout=TIMEOUT)
        result = body(Ranks(0, world, lambda: all(p.is_alive() for p, _ in helpers)), *arguments)
        for process, _ in helpers:
            process.join(timeout=60)
        return result
    except LehrError:
        raise
    except RuntimeError as error:
        if not lost_a_peer(error):
            raise  # this rank's own error; the other ranks' errors are its consequences
        raise _peer_error(helpers) or error from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process, connection in helpers:
            if process.is_alive():
                process.kill()
            process.join()
            connection.close()


def _loopback_store(world: int) -> Any:
    """The key-value store at which the ranks meet, on a socket of our own: a TCPStore that opens one listens on all
    addresses."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(2 * world)
    port, number = door.getsockname()[1], door.detach()
    return dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, world, is_master=True, master_listen_fd=number, wait_for_workers=False, timeout=TIMEOUT
    )


class Local:
    """A value that only rank 0 may hold (a tracker with threads, say): other ranks receive `fallback` instead."""

    def __init__(self, value: Any, fallback: Any) -> None:
        self.value, self.fallback = value, fallback

    def __reduce__(self) -> tuple[Any, ...]:
        return (Local, (self.fallback, self.fallback))


def _send(world: int, threads: int, body: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """Rank 0 of a launcher's ranks: send `body` to the others and run it."""
    group = LaunchedGroup.leading
    assert group is not None
    result: T = group.run(_on_launched, world, (threads, body, arguments))
    return result


def _on_launched(rank: int, world: int, threads: int, body: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    torch.set_num_threads(threads)
    keep_freed_memory()
    own = [with_local_paths(argument) for argument in arguments]
    with metered(own if rank else ()):  # rank 0's machine is counted by its attempt
        return body(Ranks(rank, world), *own)


Helper = tuple[multiprocessing.process.BaseProcess, Connection]


@dataclass(frozen=True)
class _Seat:
    """A helper process's rank, the number of ranks, its threads, the port of rank 0's store, and rank 0's environment."""

    rank: int
    world: int
    threads: int
    port: int
    environment: dict[str, str] = field(repr=False)  # which may hold keys


def _start_helper(seat: _Seat, body: Callable[..., Any], arguments: tuple[Any, ...]) -> Helper:
    # Not "fork": a forked copy of a process that has threads or CUDA may deadlock. Not "spawn": each rank would import torch
    # anew. The server also imports what the first stage's ranks run, and most of what those of later stages do with it: half a
    # second of a core for each rank of a stage.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lehr.distributed.ignore_signals", "lehr.distributed.ranks", body.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_helper, args=(seat, sender, body, arguments), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def _await(store: Any, helpers: list[Helper]) -> None:
    """Wait until every rank has reported to `store`. Raises the error of a rank that died before: gloo would wait 30
    minutes."""
    for rank, (process, _) in enumerate(helpers, start=1):
        while not store.check([f"here/{rank}"]):
            if not process.is_alive():
                raise _peer_error(helpers) or InfraError(f"rank {rank} ended before it began; run the same command again")
            time.sleep(0.01)


def _helper(seat: _Seat, sender: Connection, body: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    rank, world = seat.rank, seat.world
    # The server's is that of its start: credentials that a notebook sets between two stages would be missing.
    os.environ.clear()
    os.environ.update(seat.environment)
    threading.Thread(target=_end_with_leader, args=(sender.fileno(),), daemon=True).start()
    for heard_by_the_leader in (signal.SIGINT, signal.SIGTERM):  # rank 0 saves the state and then ends this process
        signal.signal(heard_by_the_leader, signal.SIG_IGN)
    torch.set_num_threads(seat.threads)
    keep_freed_memory()
    stay_on_loopback()
    try:
        store = dist.TCPStore("127.0.0.1", seat.port, world, is_master=False, timeout=TIMEOUT)  # type: ignore[attr-defined]
        store.set(f"here/{rank}", "1")
        dist.init_process_group(backend(), store=store, rank=rank, world_size=world, timeout=TIMEOUT)
        body(Ranks(rank, world, lambda: True), *arguments)  # no liveness check: this process ends with rank 0
        dist.destroy_process_group()
    except Exception as error:  # noqa: BLE001 (of whatever kind, rank 0 must learn of it)
        sender.send(as_lehr_error(error, f"rank {rank} of {world} on {socket.gethostname()}"))
        if not isinstance(error, LehrError):
            raise SystemExit(1) from None
    finally:
        sender.close()


def _end_with_leader(pipe: int) -> None:
    """Wait until nobody holds the other end of `pipe`, which rank 0 does while it lives, then end this process. Unlike the loss
    of a gloo connection this works before there is one, and for a rank 0 that is dead but not yet reaped.
    """
    watch = select.poll()
    watch.register(pipe, 0)  # POLLHUP and POLLERR are always reported; no other event matters
    watch.poll()
    os._exit(1)  # not sys.exit: this is not the main thread, which may be waiting in a collective


def _peer_error(helpers: list[Helper]) -> Exception | None:
    for rank, (process, connection) in enumerate(helpers, start=1):
        process.join(timeout=5)
        if connection.poll():
            try:
                error: Exception = connection.recv()
                return error
            except EOFError:
                how = _how(process.exitcode)
                which = f"rank {rank} of {len(helpers) + 1}, {how}"
                return InfraError(f"a data-parallel rank died: {which}; run the same command again to continue")
    return None


def _how(exit_code: int | None) -> str:
    """How a process ended; a negative exit code is the number of the signal."""
    if exit_code is None:
        return "it hangs"
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
