"""The ranks of a launcher: rank 0 runs the stages, the others follow it until it is done.

Every rank of torchrun or of Flyte's Elastic task runs the same program, but only one rank may own a stage's attempt, folder and
artifact. Rank 0 announces the next piece of work in the launcher's key-value store, which also carries errors; objects go
through the process group. A rank that fails leaves the group, so that no other rank waits in a collective for it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.rendezvous import rendezvous

from lehr.runtime.errors import Bug, InfraError, LehrError, NodeFault, from_os_error, from_words, in_words, node_fault
from lehr.runtime.preemption import listening
from lehr.runtime.rank_environment import check_world, hosts

T = TypeVar("T")
TIMEOUT = timedelta(seconds=1800)
_LOOK_SECONDS = 0.02  # how often a follower polls the store for work
_PATIENCE_SECONDS = 5.0  # for the other ranks to report their errors
_VERDICT_SECONDS = 60.0  # for rank 0's result, as it may have saves to finish first
Body = Callable[..., Any]


def run_as_group(work: Callable[[], T]) -> T:
    """See lehr.distributed.rank_launcher.lead_or_follow."""
    if LaunchedGroup.leading is not None:
        return work()
    group = LaunchedGroup()
    return group.lead(work) if group.rank == 0 else group.follow()


def backend() -> str:
    """The process group's backend: NCCL for tensors on GPUs, gloo for tensors in host memory."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def stay_on_loopback() -> None:
    """Bind this process's groups to the loopback interface: their ranks are all on this machine, and need no open port."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback


class PeerGone(RuntimeError):
    """Another rank is gone. gloo raises plain RuntimeErrors of its own for this: see `lost_a_peer`."""


def lost_a_peer(error: BaseException) -> bool:
    """Whether `error` means that another rank is gone, so that the cause is not on this rank."""
    return isinstance(error, PeerGone | dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def as_lehr_error(error: Exception, where: str) -> LehrError:
    """`error` of the rank at `where` as rank 0 raises it, with the same owner on every rank. An error without an owner becomes
    a Bug, which no retry mends, with the traceback as a note."""
    if isinstance(error, LehrError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error)
    if fault := node_fault(error):
        return NodeFault(f"{where} failed: {fault}")
    kind = InfraError if lost_a_peer(error) or isinstance(error, MemoryError) else Bug
    found = kind(f"{where} failed: {type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_exception(error)))
    return found


def unreachable(error: BaseException) -> InfraError:
    """What a rank raises that has lost rank 0, and with it the launcher's store."""
    return InfraError(f"rank 0's machine cannot be reached ({error}); run the same command again to continue")


def _met() -> tuple[Any, int, int]:
    """The launcher's store, this rank, and their number. Raises InfraError if the others cannot be reached."""
    try:
        store, rank, world = next(rendezvous("env://", timeout=TIMEOUT))
    except dist.DistError as error:
        raise InfraError(f"the launcher's ranks did not meet ({error}); run the same command again") from error
    return store, rank, world


class LaunchedGroup:
    """One call of `lead_or_follow` on every rank. `leading` is the call in progress, on rank 0 only."""

    leading: LaunchedGroup | None = None
    rounds = 0  # calls so far, equal on all ranks: it separates the store's keys of one call from those of the next
    group = ""  # name of the process group that this rank is in

    def __init__(self) -> None:
        LaunchedGroup.rounds += 1
        if hosts() == 1:
            stay_on_loopback()
        store, self.rank, self.world = _met()
        self._store = PrefixStore(f"lehr/{LaunchedGroup.rounds}", store)
        self._sent = 0

    def lead(self, work: Callable[[], T]) -> T:
        """Rank 0: call `work` and send its result or error to the others. Raises what it raised."""
        LaunchedGroup.leading = self
        try:
            result = work()
        except BaseException as error:
            self._store.set("error", json.dumps(in_words(error)))
            self._store.set("end", "")
            get_error_handler().record_exception(error)  # for the launcher's report
            raise
        finally:
            LaunchedGroup.leading = None
        try:
            self._send("end", [result])
        except RuntimeError as error:
            raise InfraError(f"a rank died when the work was done ({error}); run the same command again") from error
        return result

    def run(self, body: Body, processes: int, arguments: tuple[Any, ...]) -> Any:
        """Rank 0: call `body(rank, world, *arguments)` on every rank; returns its own result. Raises the error of the rank that
        failed first, or InfraError if a rank died without reporting one."""
        check_world(processes)
        self._sent += 1
        try:
            self._send(f"sent/{self._sent}", [body, arguments])
            return body(self.rank, self.world, *arguments)
        except RuntimeError as error:
            if not lost_a_peer(error):
                self._break()
                raise  # this rank's own error; the other ranks' errors are its consequences
            raise self._peer_error() or error from None
        except BaseException:
            self._break()
            raise

    def follow(self) -> Any:
        """The other ranks: run what is sent until rank 0 reports the end. SIGTERM ends the waiting at once. Raises rank 0's
        error, or InfraError if its machine cannot be reached."""
        with listening():
            while not self._said("end"):
                if self._said(f"sent/{self._sent + 1}"):
                    self._sent += 1
                    self._act()
                time.sleep(_LOOK_SECONDS)
            try:
                return self._ended()
            except RuntimeError as error:
                raise unreachable(error) from error

    def _act(self) -> None:
        try:
            body, arguments = self._receive(f"sent/{self._sent}", 2)
            with listening():  # restores the handlers afterwards: the body may have deferred SIGTERM
                body(self.rank, self.world, *arguments)
        except BaseException as error:  # noqa: BLE001 (of whatever kind, rank 0 must learn of it)
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Report `error` to rank 0 and wait for its result. A device fault is also raised here: it is this machine's, and its
        supervisor must see it; rank 0 gets a plain InfraError for it."""
        fault = node_fault(error)
        place = f"rank {self.rank} of {self.world} on {socket.gethostname()}"
        known = as_lehr_error(error, place) if isinstance(error, Exception) else from_words(in_words(error))
        try:
            self._store.set(f"failed/{self.rank}", json.dumps(in_words(InfraError(str(known)) if fault else known)))
        except RuntimeError as gone:  # with rank 0, whose end is the cause of this one, unless a device of this machine is
            raise (fault or unreachable(gone)) from error
        self._break()
        get_error_handler().record_exception(error)
        if fault:
            raise fault from error
        deadline = time.monotonic() + _VERDICT_SECONDS
        while not self._said("end"):
            if time.monotonic() > deadline:
                raise known from error
            time.sleep(_LOOK_SECONDS)

    def _ended(self) -> Any:
        """Rank 0's result, or its error."""
        if self._said("error"):
            raise from_words(json.loads(self._store.get("error")))
        return self._receive("end", 1)[0]

    def _said(self, key: str) -> bool:
        try:
            return self._store.check([key])
        except RuntimeError as error:
            raise unreachable(error) from error

    def _send(self, key: str, objects: list[Any]) -> None:
        """Rank 0: announce under `key` the group in which `objects` will be sent, then broadcast them."""
        group = LaunchedGroup.group or f"{LaunchedGroup.rounds}.{key}"
        self._store.set(key, group)
        self._join(group)
        dist.broadcast_object_list(objects, src=0)

    def _receive(self, key: str, count: int) -> list[Any]:
        """The objects that rank 0 announced under `key`."""
        group = self._store.get(key).decode()
        if LaunchedGroup.group != group:  # rank 0 has left that group after an error
            self._break()
        self._join(group)
        objects = [None] * count
        dist.broadcast_object_list(objects, src=0)
        return objects

    def _join(self, group: str) -> None:
        if not dist.is_initialized():
            # A prefix of its own for each group: keys of an earlier, broken group must not be read as this one's.
            store = PrefixStore(group, self._store)
            dist.init_process_group(backend(), store=store, rank=self.rank, world_size=self.world, timeout=TIMEOUT)
            LaunchedGroup.group = group
            atexit.unregister(_leave)  # registered once, and last: exit handlers run in reverse order
            atexit.register(_leave)

    def _peer_error(self) -> LehrError | None:
        """The error of a rank that failed before this one; InfraError for a rank that reports nothing even after the group is
        broken, which ends the waiting of every live rank. None if all ranks then report: the fault is rank 0's own."""
        as_lehr_error = self._failures()
        self._break()
        if as_lehr_error:
            return as_lehr_error[0]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(self._failed()) < self.world - 1 and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        gone = sorted(set(range(1, self.world)) - set(self._failed()))
        return InfraError(f"rank {gone[0]} of {self.world} died; run the same command again to continue") if gone else None

    def _failed(self) -> list[int]:
        return [rank for rank in range(1, self.world) if self._said(f"failed/{rank}")]

    def _failures(self) -> list[LehrError]:
        """The errors of the other ranks, machine errors last: those may be mere consequences of the others."""
        errors = [from_words(json.loads(self._store.get(f"failed/{rank}"))) for rank in self._failed()]
        return sorted(errors, key=lambda error: isinstance(error, InfraError))

    def _break(self) -> None:
        """Leave the group, which makes collectives fail on the ranks that wait in them."""
        _leave()


def _leave() -> None:
    """Leave the process group. Not with NCCL, whose running kernels cannot be aborted this way; there the launcher sees this
    process end and ends the others. Also called at exit: a process that ends inside a gloo group may abort in gloo's
    threads."""
    if dist.is_initialized() and not torch.cuda.is_available():
        dist.destroy_process_group()
        LaunchedGroup.group = ""
