"""Blocks of shards on this machine's disk: one file of a fixed size, which all processes share without locks.

A block is found by its own hash and checked against it each time, so that a torn write, another content or a power failure is
no worse than a block that is not there. The file has holes until blocks are written. In a full set a block chosen at random
gives way.
"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import numpy as np

from lehr.artifacts.object_store.cache import cache_root
from lehr.data.tokens.files import BLOCK, DIGEST
from lehr.runtime.errors import UserError

_WAYS = 8  # slots in which one block may stand
DEFAULT_GIB = 8.0
VARIABLE = "LEHR_BLOCKS_GIB"


class BlockCache:
    """`get` and `put` blocks of at most BLOCK bytes by their digests. A disk that is full or fails makes it forget, no more."""

    def __init__(self, path: Path, size: int) -> None:
        self._sets = max(1, size // (_WAYS * (BLOCK + DIGEST)))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @classmethod
    def own(cls) -> BlockCache | None:
        """This machine's, of $LEHR_BLOCKS_GIB; None for 0. Raises UserError for what is no number."""
        said = os.environ.get(VARIABLE, "")
        try:
            size = int(float(said or DEFAULT_GIB) * (1 << 30))
        except (ValueError, OverflowError):
            raise UserError(f"{VARIABLE}={said!r} is no number", remedy=f"give GiB, such as {VARIABLE}=20") from None
        return cls(cache_root() / f"blocks-{size >> 20}", size) if size > 0 else None

    def get(self, digest: bytes, size: int) -> bytes | None:
        """The block of that digest and size, or None."""
        slots = self._slots(digest)
        keys = os.pread(self._file, DIGEST * _WAYS, DIGEST * slots.start)
        for way in range(len(keys) // DIGEST):
            if keys[way * DIGEST : (way + 1) * DIGEST] == digest:
                found = os.pread(self._file, size, self._at(slots.start + way))
                if hashlib.sha256(found).digest()[:DIGEST] == digest:
                    return found
        return None

    def put(self, digest: bytes, block: bytes) -> None:
        slots = self._slots(digest)
        try:
            keys = np.frombuffer(os.pread(self._file, DIGEST * _WAYS, DIGEST * slots.start).ljust(DIGEST * _WAYS, b"\0"), "S16")
            empty = np.flatnonzero(keys == b"")
            way = int(empty[0]) if len(empty) else random.randrange(_WAYS)
            os.pwrite(self._file, block, self._at(slots.start + way))
            os.pwrite(self._file, digest, DIGEST * (slots.start + way))
        except OSError:
            return

    def _slots(self, digest: bytes) -> range:
        first = int.from_bytes(digest[:8], "little") % self._sets * _WAYS
        return range(first, first + _WAYS)

    def _at(self, slot: int) -> int:
        return DIGEST * self._sets * _WAYS + BLOCK * slot
