"""Where the documents of an id stand: SOURCE.ids, read with three short reads however many documents there are.

8-byte magic, number of documents and of the bits that choose a bucket as little-endian 8-byte numbers, the first entry of each
bucket and the number of entries (2^bits + 1 of them), then a hash for each document, ascending, and the number of each of these
documents, all 8 bytes. The hash is of the id without the `#N` of a chunk, so the chunks of one document stand side by side.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lehr.data.spans import unhurried
from lehr.data.tokens.files import REMEDY
from lehr.runtime.errors import UserError

IDS_MAGIC = b"LEHRIDS1"
_HEAD, _ITEM = 24, 8
_BUCKET = 256  # entries of a bucket on average: half a page of hashes
_AT_ONCE = 1 << 20  # entries that are sorted at once, on average: bounds memory
_READ = 1 << 14  # ids hashed at once
_CHUNK = re.compile(rb"#[0-9]+\Z")
U8 = np.dtype("<u8")


def family(raw: bytes) -> bytes:
    """An id without the number of its chunk."""
    return _CHUNK.sub(b"", raw) if b"#" in raw else raw


def key_of(name: bytes) -> int:
    """What the documents of a family are found by."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


class IdIndex:
    """Raises UserError for a file that is none, or not of so many documents."""

    def __init__(self, path: Path, documents: int) -> None:
        self._path, self._count = path, documents
        try:
            with path.open("rb", buffering=0) as file:
                unhurried(file.fileno())
                head = file.read(_HEAD)
        except FileNotFoundError:
            raise UserError("no index of documents", where=path, remedy=REMEDY) from None
        self._bits = int.from_bytes(head[16:], "little")
        size = _HEAD + _ITEM * ((1 << min(self._bits, 48)) + 1 + 2 * documents)
        if head[:16] != IDS_MAGIC + documents.to_bytes(8, "little") or self._bits > 48 or path.stat().st_size != size:
            raise UserError("damaged index of documents", where=path, remedy=REMEDY)
        self._hashes = _HEAD + _ITEM * ((1 << self._bits) + 1)

    def numbers(self, name: bytes) -> list[int]:
        """The documents that may be of that family: those whose hash is the same, ascending."""
        key = key_of(name)
        bucket = key >> (64 - self._bits) if self._bits else 0
        with self._path.open("rb", buffering=0) as file:
            unhurried(file.fileno())
            first, end = self._read(file.fileno(), _HEAD + _ITEM * bucket, 2).tolist()
            if not first <= end <= self._count:
                raise UserError("damaged index of documents", where=self._path, remedy=REMEDY)
            hashes = self._read(file.fileno(), self._hashes + _ITEM * first, end - first)
            low, high = (int(np.searchsorted(hashes, np.uint64(key), side=side)) for side in ("left", "right"))
            numbers = self._read(file.fileno(), self._hashes + _ITEM * (self._count + first + low), high - low)
        if len(numbers) and int(numbers.max()) >= self._count:
            raise UserError("damaged index of documents", where=self._path, remedy=REMEDY)
        return [int(number) for number in numbers]

    def _read(self, file: int, at: int, count: int) -> np.ndarray:
        found = os.pread(file, _ITEM * count, at)
        if len(found) < _ITEM * count:
            raise UserError("damaged index of documents", where=self._path, remedy=REMEDY)
        return np.frombuffer(found, U8)


Names = Callable[[int, int], Sequence[bytes]]  # the ids of the documents of one shard from a number to another


def write_ids(path: Path, shards: Sequence[tuple[int, Names]], scratch: Path) -> None:
    """Write the index of a source; of each shard its number of documents and their ids are given. `scratch` takes 16 bytes a
    document meanwhile; memory is bounded by the documents of a shard."""
    count = sum(documents for documents, _ in shards)
    bits = max(0, (count // _BUCKET).bit_length() - 1)
    slices = min(bits, max(0, (count // _AT_ONCE).bit_length() - 1))  # as bits too: slices are whole buckets
    scratch.mkdir(parents=True, exist_ok=True)
    files = [scratch / f".{number:06d}.run" for number in range(len(shards))]
    borders, first = list[np.ndarray](), 0
    for file, (documents, names) in zip(files, shards, strict=True):
        borders.append(_run(file, documents, names, first, slices))
        first += documents
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as out:
        out.write(IDS_MAGIC + count.to_bytes(8, "little") + bits.to_bytes(8, "little"))
        _merge(out.fileno(), files, borders, bits, slices, count)
    for file in files:
        file.unlink()
    os.replace(partial, path)


def _run(file: Path, documents: int, names: Names, first: int, slices: int) -> np.ndarray:
    """Write hash and number of each document of a shard, by hash; returns where each slice of all hashes begins in it."""
    hashes = np.empty(documents, U8)
    for at in range(0, documents, _READ):
        some = names(at, min(at + _READ, documents))
        hashes[at : at + len(some)] = np.fromiter((key_of(family(raw)) for raw in some), U8, len(some))
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    with file.open("wb") as out:
        out.write(hashes.tobytes())
        out.write((order.astype(U8) + np.uint64(first)).tobytes())
    return np.append(np.searchsorted(hashes, _starts(0, 1 << slices, slices)), documents)


def _starts(first: int, end: int, bits: int) -> np.ndarray:
    """The lowest hashes of the ranges `first` to `end` of 2^`bits` equal ones."""
    return np.array([number << (64 - bits) if bits else 0 for number in range(first, end)], U8)


def _merge(out: int, files: list[Path], borders: list[np.ndarray], bits: int, slices: int, count: int) -> None:
    """Slice by slice: of each run the part that belongs to it, sorted, and the buckets in it."""
    table, done, each = _HEAD, 0, 1 << (bits - slices)
    hashes_at = _HEAD + _ITEM * ((1 << bits) + 1)
    for number in range(1 << slices):
        parts = list(_parts(files, borders, number))
        hashes = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, U8)
        numbers = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, U8)
        order = np.argsort(hashes, kind="stable")  # runs come in the documents' order, so equal hashes stay in it
        hashes = hashes[order]
        starts = done + np.searchsorted(hashes, _starts(number * each, (number + 1) * each, bits))
        table += os.pwrite(out, starts.astype(U8).tobytes(), table)
        _put(out, hashes.tobytes(), hashes_at + _ITEM * done)
        _put(out, numbers[order].tobytes(), hashes_at + _ITEM * (count + done))
        done += len(hashes)
    os.pwrite(out, count.to_bytes(8, "little"), table)


def _parts(files: list[Path], borders: list[np.ndarray], number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes and numbers of one slice, run by run."""
    for file, border in zip(files, borders, strict=True):
        first, end = int(border[number]), int(border[number + 1])
        if first < end:
            hashes = np.fromfile(file, U8, end - first, offset=_ITEM * first)
            yield hashes, np.fromfile(file, U8, end - first, offset=_ITEM * (int(border[-1]) + first))


def _put(out: int, raw: bytes, at: int) -> None:
    """A write may take only a part."""
    view = memoryview(raw)
    while view:
        taken = os.pwrite(out, view, at)
        view, at = view[taken:], at + taken
