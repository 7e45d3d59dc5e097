"""How the pods of a stage on several nodes find each other without Flyte: each leaves its address in the run's store.

No Service, no DNS and no right of the pods' account is needed for that; the store they must reach in any case. The place has
the attempt's own name, its Job's uid, so that what an earlier attempt left is never read.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
from dataclasses import dataclass

from lehr.infra.pod.pod_request import slug
from lehr.runtime.environment import amount
from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.ports import Conflict, Objects

# What lehr.infra.jobs.specs and Kubernetes set in such pods.
ADDRESS, ATTEMPT, INDEX = "LEHR_POD_ADDRESS", "LEHR_ATTEMPT", "JOB_COMPLETION_INDEX"
PATIENCE = "LEHR_MEETING_SECONDS"
_PATIENCE_SECONDS = 900.0  # the pods of one Job do not start together: images, preflights, the scheduler
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """One pod among `nodes` of its stage, `index` from 0. Rank 0's store listens at `address` and `port`."""

    index: int
    nodes: int
    address: str
    port: int


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


def place_in_store(stage: str) -> str:
    """The prefix under which the pods of this attempt at `stage` leave their addresses."""
    return f"rendezvous/{slug(stage)}/{_of_pod(ATTEMPT)}/"


def meet(objects: Objects, stage: str, nodes: int) -> Place:
    """Wait until all pods of this attempt are there. Raises InfraError if they are not in time, UserError in no such pod."""
    index, own, start = int(_of_pod(INDEX)), _of_pod(ADDRESS), place_in_store(stage)
    patience = amount(PATIENCE, _PATIENCE_SECONDS)
    deadline = time.monotonic() + patience
    words = json.dumps({"address": own, "port": _free_port(own) if index == 0 else 0})
    try:
        objects.put(f"{start}{index}", words, None)
    except Conflict as error:
        raise InfraError(f"another pod of this attempt was number {index} before; the attempt is over") from error
    wanted = {f"{start}{number}" for number in range(nodes)}
    while missing := wanted - set(objects.keys(start)):
        if time.monotonic() > deadline:
            numbers = sorted(int(key.rpartition("/")[2]) for key in missing)
            said = ", ".join(map(str, numbers[:8])) + (" ..." if len(numbers) > 8 else "")
            raise InfraError(f"{nodes - len(missing)} of {nodes} pods came within {patience:g} s; missing: {said}")
        time.sleep(_PAUSE_SECONDS)
    return _place(objects, f"{start}0", index, nodes)


def _place(objects: Objects, key: str, index: int, nodes: int) -> Place:
    text = objects.get(key)
    try:
        words = json.loads(text[0]) if text is not None else {}
        return Place(index, nodes, str(ipaddress.ip_address(words["address"])), int(words["port"]))
    except (ValueError, TypeError, KeyError) as error:
        raise InfraError(f"{objects.root}/{key}: this is no address of a pod") from error


def leave(objects: Objects, stage: str) -> None:
    """Delete the addresses of this attempt, once its ranks have ended."""
    objects.delete(objects.keys(place_in_store(stage)))


def environment(place: Place, ranks: int, local: int) -> dict[str, str]:
    """What rank `local` of this pod's `ranks` is told, as torchrun would tell it."""
    return {
        "TORCHELASTIC_RUN_ID": _of_pod(ATTEMPT),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "RANK": str(place.index * ranks + local),
        "WORLD_SIZE": str(place.nodes * ranks),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": str(place.index),
        "GROUP_WORLD_SIZE": str(place.nodes),
    }
