"""How the pods of a stage on several nodes find each other without Flyte: each leaves its address in the run's store.

No Service, no DNS and no right of the pods' account is needed for that; the store they must reach in any case. The place has
the attempt's own name, its Job's uid, so that what an earlier attempt left is never read.

Pods meet in rounds: when ranks have died, the pods that are left meet again, with those that Kubernetes makes for lost ones.
`round` holds the number of the newest round, and `ROUND/SEAT` who has that seat in it, of as many as there are nodes. A pod
takes the seat of its index, and keeps it; the pods beyond are spares, which take a seat that stays empty. What was written by
a pod that is gone cannot be told from what lives: so whoever comes to a round in which its index was before begins the next
one, to which all others follow.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Any

from lehr.infra.pod.pod_request import slug
from lehr.runtime.environment import amount
from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.ports import Conflict, Objects

# What lehr.infra.jobs.specs and Kubernetes set in such pods.
ADDRESS, ATTEMPT, INDEX = "LEHR_POD_ADDRESS", "LEHR_ATTEMPT", "JOB_COMPLETION_INDEX"
PATIENCE = "LEHR_MEETING_SECONDS"
IDLE_RESTARTS = 3  # that bring no newer save or copy; then the attempt is over
AGAIN = "LEHR_MEETING_AGAIN_SECONDS"
_PATIENCE_SECONDS = 900.0  # the pods of one Job do not start together: images, preflights, the scheduler
_PATIENCE_AGAIN_SECONDS = 300.0  # for the pod that takes a lost one's place; where none comes all pods are made anew
_SPARE_SECONDS = 15.0  # that a seat is left for the pod that had it: longer than pods take to hear of a new round
_SPARE_FIRST_SECONDS = 300.0  # the same in the first one, to which pods come as they start
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """The seat of a pod among `nodes`, from 0, in a round. Rank 0's store listens at `address` and `port`."""

    seat: int
    nodes: int
    address: str
    port: int
    round: int = 0


class Over(Exception):
    """The stage is made: there is nothing left to meet for."""


@dataclass(frozen=True)
class _Round:
    """The newest round. `idle` restarts in a row brought nothing newer than what was kept of `step`."""

    number: int = 0
    idle: int = 0
    step: int = -1
    over: bool = False

    def text(self) -> str:
        return json.dumps(vars(self))


def _of_pod(name: str) -> str:
    if not (text := os.environ.get(name, "")):
        raise UserError("this is no pod of a stage on several nodes", where=name, remedy="it is set by `lehr submit`")
    return text


def _free_port(address: str) -> int:
    """A port of this pod's that nobody listens on: rank 0 will."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with socket.socket(family) as door:
        door.bind((address, 0))
        return int(door.getsockname()[1])


class Meeting:
    """This pod among those of its attempt. Every method raises what the store raises; the first, UserError in no such pod."""

    def __init__(self, objects: Objects, stage: str, nodes: int) -> None:
        self.objects, self.nodes, self.index = objects, nodes, int(_of_pod(INDEX))
        self.start, self._address = f"rendezvous/{slug(stage)}/{_of_pod(ATTEMPT)}/", _of_pod(ADDRESS)
        self.seat = self.index if self.index < nodes else None
        self.round, self._own = -1, uuid.uuid4().hex

    def join(self) -> Place:
        """Wait until every seat of a round is taken, one of them by this pod. Raises InfraError if they are not in time, or
        after too many restarts without progress; Over if the stage is made."""
        patience = amount(AGAIN, _PATIENCE_AGAIN_SECONDS) if self.round >= 0 else amount(PATIENCE, _PATIENCE_SECONDS)
        while True:
            number, seat = self.sit()
            deadline = time.monotonic() + patience
            while missing := self._missing(number):
                if time.monotonic() > deadline:
                    said = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
                    there = self.nodes - len(missing)
                    raise InfraError(f"{there} of {self.nodes} pods came within {patience:g} s; missing: {said}")
                time.sleep(_PAUSE_SECONDS)
                if self._newest()[0].number != number:
                    break
            else:
                self.round = number
                return self._place(number, seat)

    def sit(self) -> tuple[int, int]:
        """Take a seat of the newest round: (its number, the seat). A spare waits until one stays empty. Raises as `join`."""
        watched, since = -1, 0.0
        while True:
            number = self._newest()[0].number
            if self.seat is not None and self._takes(number, self.seat):
                return number, self.seat
            if self._was_here(number):
                self.restart(number)
                continue
            self.seat = None  # a spare has it
            if number != watched:
                watched, since = number, time.monotonic()
            left = _SPARE_SECONDS if number else _SPARE_FIRST_SECONDS
            if time.monotonic() > since + left and (free := self._free(number)) is not None:
                self.seat = free
                return number, free
            time.sleep(_PAUSE_SECONDS)

    def _free(self, number: int) -> int | None:
        """An empty seat of the round, taken."""
        for seat in self._missing(number):
            # First, so that whoever comes in this pod's place finds that it was here.
            self._write(f"{number}/of-{self.index}", 0)
            if self._takes(number, seat):
                return seat
        return None

    def _was_here(self, number: int) -> bool:
        """Whether an earlier pod of this index is in the round."""
        for key in (f"{number}/{self.index}", f"{number}/of-{self.index}"):
            found = self.objects.get(self.start + key)
            said = self._parsed(key, found[0]) if found is not None else {}
            if said.get("index") == self.index and said.get("pod") != self._own:
                return True
        return False

    def restart(self, number: int) -> None:
        """Begin the round after `number`, unless another pod has. Raises InfraError after too many without progress."""
        while (found := self._newest())[0].number == number:
            newest, version = found
            if newest.idle >= IDLE_RESTARTS:
                raise InfraError(
                    f"{IDLE_RESTARTS} restarts of the ranks in a row brought nothing newer than step {newest.step}"
                )
            self._put(_Round(number + 1, newest.idle + 1, newest.step), version)

    def moved(self) -> bool:
        """Whether another pod has begun a round since this one's."""
        return self._read()[0].number > self.round

    def progressed(self, step: int) -> None:
        """A state of `step` is kept: restarts before it do not count any more."""
        newest, version = self._read()
        if step > newest.step and not newest.over:
            self._put(_Round(newest.number, 0, step), version)

    def leave(self) -> None:
        """The stage is made: say so to pods that come back, and delete the addresses."""
        while not (found := self._read())[0].over:
            self._put(_Round(found[0].number, 0, found[0].step, over=True), found[1])
        self.objects.delete([key for key in self.objects.keys(self.start) if key != f"{self.start}round"])

    def _put(self, newest: _Round, version: str | None) -> None:
        """Write it, unless another pod has written since."""
        try:
            self.objects.put(f"{self.start}round", newest.text(), version)
        except Conflict:
            return

    def _read(self) -> tuple[_Round, str | None]:
        found = self.objects.get(f"{self.start}round")
        if found is None:
            return _Round(), None
        said = self._parsed("round", found[0])
        try:
            return _Round(int(said["number"]), int(said["idle"]), int(said["step"]), bool(said["over"])), found[1]
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged("round") from error

    def _newest(self) -> tuple[_Round, str | None]:
        newest, version = self._read()
        if newest.over:
            raise Over
        if version is None:
            self._put(newest, None)
            return self._newest()
        return newest, version

    def _takes(self, number: int, seat: int) -> bool:
        """Take a seat of round `number`. False if another pod has it."""
        self._write(f"{number}/{seat}", _free_port(self._address) if seat == 0 else 0)
        found = self.objects.get(f"{self.start}{number}/{seat}")
        return found is not None and self._parsed(f"{number}/{seat}", found[0]).get("pod") == self._own

    def _write(self, key: str, port: int) -> None:
        """Say that this pod is there, unless another one has."""
        words = {"pod": self._own, "index": self.index, "address": self._address, "port": port}
        try:
            self.objects.put(self.start + key, json.dumps(words), None)
        except Conflict:
            return

    def _missing(self, number: int) -> list[int]:
        there = {key.rpartition("/")[2] for key in self.objects.keys(f"{self.start}{number}/")}
        return [seat for seat in range(self.nodes) if str(seat) not in there]

    def _place(self, number: int, seat: int) -> Place:
        key = f"{number}/0"
        text = self.objects.get(self.start + key)
        said = self._parsed(key, text[0] if text is not None else "")
        try:
            return Place(seat, self.nodes, str(ipaddress.ip_address(said["address"])), int(said["port"]), number)
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(key) from error

    def _parsed(self, key: str, text: str) -> dict[str, Any]:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damaged(key) from error
        if not isinstance(said, dict):
            raise self._damaged(key)
        return said

    def _damaged(self, key: str) -> InfraError:
        return InfraError(f"{self.objects.root}/{self.start}{key}: no pod of Lehr's wrote this")


def environment(place: Place, ranks: int, local: int) -> dict[str, str]:
    """What rank `local` of this pod's `ranks` is told, as torchrun would tell it."""
    return {
        "TORCHELASTIC_RUN_ID": _of_pod(ATTEMPT),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "RANK": str(place.seat * ranks + local),
        "WORLD_SIZE": str(place.nodes * ranks),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": str(place.seat),
        "GROUP_WORLD_SIZE": str(place.nodes),
    }
