"""A shard's tokens that stay in an object store: read block by block, ahead of need, each block checked against its hash."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

from lehr.artifacts.elsewhere import Elsewhere
from lehr.artifacts.object_store import ranges
from lehr.data.tokens.block_cache import BlockCache
from lehr.data.tokens.files import BLOCK, DIGEST, REMEDY, Listing, read_blocks, shard_file
from lehr.runtime.errors import UserError

_STREAMS = 16  # blocks read at once
_HELD = 1024  # blocks in memory, those that are being read included: 128 MiB


class BlockReader:
    """Blocks of all shards that this process reads. `read` gives one, `want` begins to read it."""

    def __init__(self, cache: BlockCache | None) -> None:
        self._cache, self._lock = cache, Lock()
        self._pool = ThreadPoolExecutor(_STREAMS, thread_name_prefix="blocks")
        self._held: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def want(self, shard: RemoteShard, block: int) -> Future[bytes]:
        """Begin to read a block that is neither held nor being read."""
        key = (shard.address, block)
        with self._lock:
            found = self._held.get(key)
            if found is None:
                found = self._held[key] = self._pool.submit(self._load, shard, block)
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            return found

    def read(self, shard: RemoteShard, block: int) -> bytes:
        """Raises UserError for a block that is not what its hash says, InfraError if the store fails."""
        future = self.want(shard, block)
        try:
            return future.result()
        except BaseException:
            with self._lock:  # whoever asks again has it read again
                if self._held.get((shard.address, block)) is future:
                    del self._held[shard.address, block]
            raise

    def _load(self, shard: RemoteShard, block: int) -> bytes:
        digest, size = shard.digest(block), shard.size(block)
        if self._cache is not None and (found := self._cache.get(digest, size)) is not None:
            return found
        for _ in range(2):  # once more: it may have been damaged on the way
            found = ranges.read(shard.there, shard.name, shard.offset + block * BLOCK, size)
            if hashlib.sha256(found).digest()[:DIGEST] == digest:
                break
        else:
            raise UserError(f"block {block} of this shard is altered: its hash differs", where=shard.address, remedy=REMEDY)
        if self._cache is not None:
            self._cache.put(digest, found)
        return found


@cache
def reader() -> BlockReader:
    """This process's."""
    return BlockReader(BlockCache.own())


class RemoteShard:
    """The tokens of shard `number`, of which slices are read. `folder` is the copy of the artifact, which has the hashes."""

    def __init__(self, folder: Path, there: Elsewhere, listing: Listing, number: int) -> None:
        shard = listing.shards[number]
        self._dtype, self._count = np.dtype(listing.dtype), shard.tokens
        self.there, self.offset = there, shard.offset
        self.name = shard_file(folder, listing.source, number, "tokens").name
        self.address = ranges.address(there, self.name)
        self._bytes = shard.tokens * self._dtype.itemsize
        self._digests = read_blocks(shard_file(folder, listing.source, number, "blocks"), shard)

    def __len__(self) -> int:
        return self._count

    def digest(self, block: int) -> bytes:
        return self._digests[block * DIGEST : (block + 1) * DIGEST]

    def size(self, block: int) -> int:
        return min(BLOCK, self._bytes - block * BLOCK)

    def _blocks(self, begin: int, end: int) -> range:
        width = self._dtype.itemsize
        return range(begin * width // BLOCK, -(-end * width // BLOCK))

    def want(self, begin: int, end: int) -> None:
        """Begin to read the blocks of the tokens `begin` to `end`."""
        for block in self._blocks(begin, end):
            reader().want(self, block)

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(self._count)
        blocks = self._blocks(begin, max(begin, end))
        self.want(begin, max(begin, end))
        found = b"".join(reader().read(self, block) for block in blocks)
        first = begin * self._dtype.itemsize - blocks.start * BLOCK if blocks else 0
        return np.frombuffer(found, self._dtype, max(0, end - begin), first)
