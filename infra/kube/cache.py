"""A local copy of what the controller watches, correct under duplicates, reordering and late answers.

Each table is fed by one watch and by the answers to our own requests. An object's newer version always wins, and no object
returns that is older than its own deletion. `Dirty.take` returns the nodes whose view has changed since the last call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

GRAVES = 16_384  # deletions remembered: bounds the memory


@dataclass(frozen=True, slots=True)
class CachedObject:
    """The kept part of one object. `node` is the node that it concerns. `version` orders the versions of one object."""

    key: str
    uid: str
    version: int
    node: str


T = TypeVar("T", bound=CachedObject)


class Dirty:
    """Names of nodes to decide upon, and a way to wait for one."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._some = threading.Condition()

    def add(self, names: Iterable[str]) -> None:
        with self._some:
            self._names.update(name for name in names if name)
            self._some.notify_all()

    def take(self, seconds: float) -> set[str]:
        """All names so far; waits up to `seconds` for the first."""
        with self._some:
            if not self._names and seconds > 0:
                self._some.wait(seconds)
            found, self._names = self._names, set()
            return found


class Table(Generic[T]):
    """Objects by key and by node. Thread-safe."""

    def __init__(self, dirty: Dirty) -> None:
        self._dirty = dirty
        self._objects: dict[str, T] = {}
        self._by_node: defaultdict[str, dict[str, T]] = defaultdict(dict)
        self._graves: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, item: T) -> bool:
        """Store a version of an object; False if a newer one, or its deletion, is known already."""
        with self._lock:
            before = self._objects.get(item.key)
            if self._buried(item) or (before is not None and not _newer(item, before)):
                return False
            self._set(item.key, item)
        self._dirty.add({item.node, before.node if before else ""})
        return True

    def drop(self, key: str, uid: str, version: int) -> None:
        """The object with this uid is deleted as of `version`, or no longer matches the watch (and may match again)."""
        with self._lock:
            self._graves[uid] = max(version, self._graves.pop(uid, 0))
            if len(self._graves) > GRAVES:
                self._graves.popitem(last=False)
            before = self._objects.get(key)
            if before is None or before.uid != uid or before.version > version:
                return
            self._set(key, None)
        self._dirty.add({before.node})

    def keep(self, objects: list[T]) -> list[T]:
        """Those of an incomplete list that are worth the memory until it is complete."""
        return objects

    def replace(self, objects: Iterable[T], version: int) -> None:
        """Replace the table by a list of resourceVersion `version`. Objects known to be newer stay."""
        listed = {item.key: item for item in objects}
        changed: set[str] = set()
        with self._lock:
            for key, before in list(self._objects.items()):
                if key not in listed and before.version <= version:
                    self._set(key, None)
                    changed.add(before.node)
            for key, item in listed.items():
                old = self._objects.get(key)
                if not self._buried(item) and (old is None or _newer(item, old)):
                    self._set(key, item)
                    changed |= {item.node, old.node if old else ""}
        self._dirty.add(changed)

    def _buried(self, item: T) -> bool:
        return item.version <= self._graves.get(item.uid, -1)

    def _set(self, key: str, item: T | None) -> None:
        before = self._objects.pop(key, None)
        if before is not None:
            held = self._by_node[before.node]
            held.pop(key, None)
            if not held:
                del self._by_node[before.node]
        if item is not None:
            self._objects[key] = item
            self._by_node[item.node][key] = item

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def of_node(self, node: str) -> list[T]:
        with self._lock:
            found = self._by_node.get(node)
            return list(found.values()) if found else []

    def all(self) -> list[T]:
        with self._lock:
            return list(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)


def _newer(item: CachedObject, before: CachedObject) -> bool:
    # resourceVersions of one resource type grow with time, across objects: a recreated object has a higher one too.
    return item.version > before.version
