"""The ranks of a launcher: rank 0 runs the stages, the others follow it until it is done.

Every rank of torchrun or of Flyte's Elastic task runs the same program, but a stage's life is one rank's: its attempt, its
folder, its artifact. The launcher's store tells the others what comes next, and carries errors; what is sent goes through the
process group. Whoever fails breaks the group, so that nobody waits in a collective for one who will not come.
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
_LOOK_SECONDS = 0.02  # how often a follower looks for something to do
_PATIENCE_SECONDS = 5.0  # for a rank's termination message
_VERDICT_SECONDS = 60.0  # for rank 0's, which may have files to finish
Body = Callable[..., Any]


def run_as_group(work: Callable[[], T]) -> T:
    """See lehr.distributed.rank_launcher.lead_or_follow."""
    if LaunchedGroup.leading is not None:
        return work()
    group = LaunchedGroup()
    return group.lead(work) if group.rank == 0 else group.follow()


def backend() -> str:
    """What carries sums over ranks: NCCL between GPUs, gloo between hosts' memories."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def stay_on_loopback() -> None:
    """From now on this process's groups are of one machine's ranks, and listen nowhere else."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback


class PeerGone(RuntimeError):
    """A rank waits for one that is not there any more. gloo says so by RuntimeErrors of its own: see `lost_a_peer`."""


def lost_a_peer(error: BaseException) -> bool:
    """Whether `error` means that another rank is gone, and so is nobody's own mistake here."""
    return isinstance(error, PeerGone | dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def as_lehr_error(error: Exception, where: str) -> LehrError:
    """`error` of the rank that is at `where`, as rank 0 raises it: its owner is the same on every rank. What nobody owns is a
    Bug, which no retry mends, with the traceback as a note."""
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


class LaunchedGroup:
    """One call of `together` on every rank. `leading` is the one under way, on rank 0 only."""

    leading: LaunchedGroup | None = None
    rounds = 0  # calls so far: every rank counts them alike
    group = ""  # name of the process group that this rank is in

    def __init__(self) -> None:
        LaunchedGroup.rounds += 1
        if hosts() == 1:
            stay_on_loopback()
        store, self.rank, self.world = next(rendezvous("env://", timeout=TIMEOUT))
        self._store = PrefixStore(f"lehr/{LaunchedGroup.rounds}", store)
        self._sent = 0

    def lead(self, work: Callable[[], T]) -> T:
        """Rank 0: do `work`, and tell the others how it ended. Raises what it raised."""
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
        """Rank 0: call `body(rank, world, *arguments)` on every rank; returns its own result. Raises the first rank's own
        error, or InfraError if a rank died without a word."""
        check_world(processes)
        self._sent += 1
        try:
            self._send(f"sent/{self._sent}", [body, arguments])
            return body(self.rank, self.world, *arguments)
        except RuntimeError as error:
            if not lost_a_peer(error):
                self._break()
                raise  # this rank's own, which the others can only repeat
            raise self._peer_error() or error from None
        except BaseException:
            self._break()
            raise

    def follow(self) -> Any:
        """The other ranks: do what is sent, until rank 0 says how it ended. SIGTERM ends the waiting at once."""
        with listening():
            while not self._said("end"):
                if self._said(f"sent/{self._sent + 1}"):
                    self._sent += 1
                    self._act()
                time.sleep(_LOOK_SECONDS)
            return self._ended()

    def _act(self) -> None:
        try:
            body, arguments = self._receive(f"sent/{self._sent}", 2)
            with listening():  # its end undoes that the body deferred SIGTERM
                body(self.rank, self.world, *arguments)
        except BaseException as error:  # noqa: BLE001 (whatever it is, rank 0 must hear of it)
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Tell rank 0 and wait for its verdict. A device that failed is this machine's, so that error stays here."""
        fault = node_fault(error)
        place = f"rank {self.rank} of {self.world} on {socket.gethostname()}"
        known = as_lehr_error(error, place) if isinstance(error, Exception) else from_words(in_words(error))
        self._store.set(f"failed/{self.rank}", json.dumps(in_words(InfraError(str(known)) if fault else known)))
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
            raise InfraError(f"rank 0's machine cannot be reached ({error}); run the same command again to continue") from error

    def _send(self, key: str, objects: list[Any]) -> None:
        """Rank 0: announce under `key` that `objects` come, and in which group; then send them."""
        group = LaunchedGroup.group or f"{LaunchedGroup.rounds}.{key}"
        self._store.set(key, group)
        self._join(group)
        dist.broadcast_object_list(objects, src=0)

    def _receive(self, key: str, count: int) -> list[Any]:
        """What rank 0 announced under `key`."""
        group = self._store.get(key).decode()
        if LaunchedGroup.group != group:  # rank 0 left the last one
            self._break()
        self._join(group)
        objects = [None] * count
        dist.broadcast_object_list(objects, src=0)
        return objects

    def _join(self, group: str) -> None:
        if not dist.is_initialized():
            store = PrefixStore(group, self._store)
            dist.init_process_group(backend(), store=store, rank=self.rank, world_size=self.world, timeout=TIMEOUT)
            LaunchedGroup.group = group
            atexit.unregister(_leave)
            atexit.register(_leave)

    def _peer_error(self) -> LehrError | None:
        """The error of a rank that failed before this one; InfraError for one that says nothing even when the group is broken,
        which wakes all that live. None where all answer to that only: then the fault is rank 0's own."""
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
        """What the others failed with, other owners' errors before the machine's: those may be mere consequences."""
        errors = [from_words(json.loads(self._store.get(f"failed/{rank}"))) for rank in self._failed()]
        return sorted(errors, key=lambda error: isinstance(error, InfraError))

    def _break(self) -> None:
        """Leave the group, which ends what others wait for in it."""
        _leave()


def _leave() -> None:
    """Leave the process group. NCCL's kernels cannot be left so; there the launcher, which sees this process end, ends the
    others. At exit too: gloo's threads do not always outlive a process that is still in a group, which then aborts."""
    if dist.is_initialized() and not torch.cuda.is_available():
        dist.destroy_process_group()
        LaunchedGroup.group = ""
