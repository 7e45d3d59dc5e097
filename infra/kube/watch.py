"""One watched list: list, watch from there, and list again when the version has expired or after some time."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from lehr.infra.kube.api import Api, ApiError, Object, Watch
from lehr.infra.kube.cache import CachedObject, Table
from lehr.infra.kube.text import plain
from lehr.runtime.errors import InfraError

LOG = logging.getLogger("lehr.infra.kube")
T = TypeVar("T", bound=CachedObject)
GONE = 410
WATCH_SECONDS = 100.0  # less than SILENCE_SECONDS: a resource that never changed gets no bookmarks
BACKOFF_SECONDS, BACKOFF_MAX_SECONDS = 0.1, 30.0


class Reflector(Generic[T]):
    """Keeps `table` equal to the objects at `path`. Objects that `parse` cannot read are left out, logged and counted."""

    def __init__(
        self,
        api: Api,
        path: str,
        parse: Callable[[Object], T],
        table: Table[T],
        query: Mapping[str, str] | None = None,
        relist_seconds: float = 600.0,
        on_error: Callable[[str], None] | None = None,
    ) -> None:
        self._api, self._path, self._parse, self.table = api, path, parse, table
        self._query, self._relist_seconds = query or {}, relist_seconds
        self._on_error = on_error or (lambda reason: None)
        self._stop, self.synced = threading.Event(), threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        watch = self._watch
        if watch is not None:
            watch.close()

    @property
    def alive(self) -> bool:
        """False if it was never started, was stopped, or ended by an error of ours."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def relist(self) -> str:
        """List everything once and return the list's resourceVersion. Raises InfraError."""
        objects: list[T] = []
        version = "0"
        for page in self._api.pages(self._path, self._query):
            version = str(page["metadata"]["resourceVersion"])
            objects = self.table.keep(
                objects + [found for item in page.get("items") or [] if (found := self._read(item)) is not None]
            )
        self.table.replace(objects, int(version))
        self.synced.set()
        return version

    def _run(self) -> None:
        wait = BACKOFF_SECONDS
        while not self._stop.is_set():
            try:
                self._watch_until_old(self.relist())
                wait = BACKOFF_SECONDS
            except (InfraError, OSError, LookupError, ValueError) as error:
                if self._stop.is_set():
                    return
                expired = isinstance(error, ApiError) and error.status == GONE
                self._on_error("watch-expired" if expired else "watch")
                LOG.log(logging.INFO if expired else logging.WARNING, "%s: %s; listing again", self._path, error)
                # An expired version is routine: list again at once, but not in a tight loop.
                self._stop.wait(0.0 if expired and wait == BACKOFF_SECONDS else random.uniform(wait / 2, wait))
                wait = min(2 * wait, BACKOFF_MAX_SECONDS)

    def _watch_until_old(self, version: str) -> None:
        """Follow the watch, reopening it when it ends, until it is time to list again."""
        spread = random.uniform(0.8, 1.2)  # so that replicas do not list at the same moment
        end = time.monotonic() + self._relist_seconds * spread
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            self._watch = watch = self._api.watch(self._path, version, self._query, max(1, round(min(WATCH_SECONDS, left))))
            if self._stop.is_set():
                watch.close()
                return
            opened = time.monotonic()
            for kind, item in watch:
                version = str(item["metadata"]["resourceVersion"])
                self._take(kind, item)
                if time.monotonic() > end:
                    watch.close()
                    break
            if time.monotonic() - opened < 0.5:  # do not overload a server that ends every watch at once
                self._stop.wait(0.2)

    def _take(self, kind: str, item: Object) -> None:
        if kind == "BOOKMARK":
            return
        found = self._read(item)
        if found is None:
            return
        if kind == "DELETED":
            self.table.drop(found.key, found.uid, found.version)
        else:
            self.table.put(found)

    def _read(self, item: Object) -> T | None:
        try:
            return self._parse(item)
        except Exception as error:  # noqa: BLE001 - one object, whatever it contains, must not end the watch of all others
            self._on_error("unreadable")
            meta = item.get("metadata") if isinstance(item, dict) else None
            name = plain(meta.get("name")) if isinstance(meta, dict) else "an object"
            LOG.warning("%s: cannot read %s: %s", self._path, name, plain(f"{type(error).__name__}: {error}", 200))
            return None
