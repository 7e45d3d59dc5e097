"""What Lehr relies on in an object store, tried with small objects of its own, which are removed (docs/robustness.md)."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.findings import Finding, clock_skew, fail, of_error, ok
from lehr.runtime.ports import Conflict, Objects

_WRITERS = 8
_ANOTHER = "use a store that promises it, such as AWS S3 or SeaweedFS, and no cache before it"
Step = Callable[[Objects, str], Finding]


def check_store(objects: Objects, date: Callable[[], float | None], large_bytes: int) -> Iterator[Finding]:
    """One finding after the other; nothing else is tried of a store that does not answer. `date` is the store's clock in Unix
    seconds; `large_bytes` are sent and fetched in several parts."""
    key = f"probe/{uuid.uuid4().hex}"
    try:
        theirs = date()
        yield clock_skew("clock of the store", theirs, time.time(), "the store")
        objects.get(key)  # in some stores a put would make the bucket
    except LehrError as error:
        yield of_error("reach the store", error)
        return
    yield ok("reach the store", f"{objects.root} answers these credentials")
    for name, step in STEPS:
        yield _step(name, partial(step, objects, _under(key, name)))
    yield _step("large objects", partial(large, objects, f"{key}/large", large_bytes))
    yield _step("delete", partial(delete, objects, key))


def _under(key: str, name: str) -> str:
    return f"{key}/{name.replace(' ', '-')}"


def _step(name: str, step: Callable[[], Finding]) -> Finding:
    try:
        return step()
    except LehrError as error:
        return of_error(name, error)


def read_after_write(objects: Objects, key: str) -> Finding:
    """The value and version that were written last are read, at once."""
    name = "read after write"
    version = objects.put(key, "first", None)
    if objects.get(key) != ("first", version):
        return fail(name, "an object that was written is not the one that is read at once", _ANOTHER)
    version = objects.put(key, "second", version)
    if objects.get(key) != ("second", version):
        return fail(name, "after an object was replaced, the old one is read", _ANOTHER)
    return ok(name, "what was written last is read")


def conditions(objects: Objects, key: str) -> Finding:
    """If-None-Match and If-Match hold, also between writers at the same moment."""
    name = "conditional put"
    require_conditions(objects)
    together = Barrier(_WRITERS, timeout=30)

    def wins(number: int) -> bool:
        together.wait()
        try:
            objects.put(key, str(number), None)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        winners = sum(pool.map(wins, range(_WRITERS)))
    if winners > 1:
        what = (
            f"of {_WRITERS} who made one object at the same moment {winners} succeeded, so attempts would overwrite each other"
        )
        return fail(name, what, _ANOTHER)
    return ok(name, "If-None-Match and If-Match hold, also among eight at once")


def list_after_write(objects: Objects, key: str) -> Finding:
    """A new object is listed at once."""
    name = "list after write"
    objects.put(key, "x", None)
    if objects.keys(key) != [key]:
        return fail(name, "an object that was written is not listed at once", _ANOTHER)
    return ok(name, "a new object is listed at once")


STEPS: tuple[tuple[str, Step], ...] = (
    ("read after write", read_after_write),
    ("conditional put", conditions),
    ("list after write", list_after_write),
)


def large(objects: Objects, key: str, size: int) -> Finding:
    """An object goes up in parts and comes back in ranges, bit for bit; unfinished uploads can be taken away."""
    name = "large objects"
    with tempfile.TemporaryDirectory(prefix="lehr-doctor-") as folder:
        sent, fetched = Path(folder, "sent"), Path(folder, "fetched")
        sent.write_bytes(os.urandom(size))
        began = time.monotonic()
        objects.upload({key: sent})
        up = time.monotonic() - began
        objects.download({key: fetched})
        down = time.monotonic() - began - up
        if _digest(sent) != _digest(fetched):
            return fail(name, "an object that was sent in parts comes back with other bytes", _ANOTHER)
    objects.abort_uploads(key)
    speed = f"{size / max(up, 1e-6) / 1e6:.0f} MB/s up, {size / max(down, 1e-6) / 1e6:.0f} down"
    return ok(name, f"{size / 1e6:.0f} MB in parts and ranges, {speed}")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def delete(objects: Objects, prefix: str) -> Finding:
    """Everything that the checks wrote goes, and is neither read nor listed afterwards."""
    name = "delete"
    written = [_under(prefix, step) for step, _ in STEPS] + [f"{prefix}/large"]
    try:
        objects.delete(written)
    except LehrError as error:
        found = of_error(name, error)
        remedy = error.remedy if isinstance(error, UserError) else "allow these credentials to delete there"
        return fail(name, f"{found.found}; left behind below {objects.root}/{prefix}", remedy)
    if objects.get(written[0]) is not None or objects.keys(prefix):
        return fail(name, f"what was deleted is still read or listed below {objects.root}/{prefix}", _ANOTHER)
    return ok(name, "what the checks wrote is gone")
