"""A local copy of what the controller watches, kept right under duplicates, reordering and late answers.

Each table is fed by one watch and by the answers to our own requests. An object's newer version always wins, and nothing
comes back that is older than its own deletion. `take` returns the nodes whose view has changed since.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Generic, TypeVar

from lehr.infra.controller.facts import Fact

F = TypeVar("F", bound=Fact)
GRAVES = 16_384


class Dirty:
    """Names of nodes to look at, and a way to wait for one."""

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


class Table(Generic[F]):
    """Facts by key and by node. Every method may be called from any thread."""

    def __init__(self, dirty: Dirty) -> None:
        self._dirty = dirty
        self._facts: dict[str, F] = {}
        self._by_node: defaultdict[str, dict[str, F]] = defaultdict(dict)
        self._graves: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, fact: F) -> bool:
        """Take note of a version; False if it is no news."""
        with self._lock:
            before = self._facts.get(fact.key)
            if self._buried(fact) or (before is not None and not _newer(fact, before)):
                return False
            self._set(fact.key, fact)
        self._dirty.add({fact.node, before.node if before else ""})
        return True

    def drop(self, key: str, uid: str, version: int) -> None:
        """The object with this uid is gone since `version`, or has left what is watched (and may come back)."""
        with self._lock:
            self._graves[uid] = max(version, self._graves.pop(uid, 0))
            if len(self._graves) > GRAVES:
                self._graves.popitem(last=False)
            before = self._facts.get(key)
            if before is None or before.uid != uid or before.version > version:
                return
            self._set(key, None)
        self._dirty.add({before.node})

    def keep(self, facts: list[F]) -> list[F]:
        """Those of a list so far that are worth the memory until it is complete."""
        return facts

    def replace(self, facts: Iterable[F], version: int) -> None:
        """The whole table as a list of version `version` showed it. What is known to be newer stays."""
        listed = {fact.key: fact for fact in facts}
        changed: set[str] = set()
        with self._lock:
            for key, before in list(self._facts.items()):
                if key not in listed and before.version <= version:
                    self._set(key, None)
                    changed.add(before.node)
            for key, fact in listed.items():
                old = self._facts.get(key)
                if not self._buried(fact) and (old is None or _newer(fact, old)):
                    self._set(key, fact)
                    changed |= {fact.node, old.node if old else ""}
        self._dirty.add(changed)

    def _buried(self, fact: F) -> bool:
        return fact.version <= self._graves.get(fact.uid, -1)

    def _set(self, key: str, fact: F | None) -> None:
        before = self._facts.pop(key, None)
        if before is not None:
            held = self._by_node[before.node]
            held.pop(key, None)
            if not held:
                del self._by_node[before.node]
        if fact is not None:
            self._facts[key] = fact
            self._by_node[fact.node][key] = fact

    def get(self, key: str) -> F | None:
        return self._facts.get(key)

    def of_node(self, node: str) -> list[F]:
        with self._lock:
            found = self._by_node.get(node)
            return list(found.values()) if found else []

    def all(self) -> list[F]:
        with self._lock:
            return list(self._facts.values())

    def __len__(self) -> int:
        return len(self._facts)


def _newer(fact: Fact, before: Fact) -> bool:
    # Versions of one resource type grow with time, whatever the object: a recreated one has a higher version too.
    return fact.version > before.version
