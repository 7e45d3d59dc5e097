"""Look-up between documents and steps, both ways, on a source of any number of documents.

python -m benchmarks.lookup --documents N [--folder FOLDER] [--turns N]

The spans and the index of N documents are written to the disk as a stage of shards writes them, 44 bytes a document and 16 more
while it works; the tokens are holes in their files. A cold look-up begins with nothing of these files
mapped or in the page cache.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lehr.config.mix import Mix
from lehr.config.shards import Shards
from lehr.data.loader import Loader
from lehr.data.mix import plan
from lehr.data.shards import ShardSet
from lehr.data.spans import SpansWriter
from lehr.data.tokens import files
from lehr.data.tokens.files import HEADER_MAGIC, Listing, Shard, header_of, listing_file, shard_file
from lehr.data.tokens.writing import Place, write_index

SOURCE, TOKENIZER = "web", "0" * 64
LENGTH, BATCH = 4096, 32  # positions of a window, windows of a step
_MEAN = 500  # tokens of a document
_EACH = Shards().tokens // _MEAN  # documents of a shard, nearly
_AT_ONCE = 1 << 16
Record = tuple[str, str, list[float], float]


def name_of(number: int) -> bytes:
    """Eleven bytes, as short as ids come."""
    return b"d%010d" % number


def synthesise(folder: Path, documents: int) -> float:
    """Write the source; returns the seconds that its index took."""
    shards = list[Shard]()
    for number, first in enumerate(range(0, documents, _EACH)):
        shards.append(_shard(folder, number, first, min(first + _EACH, documents)))
        _say(f"{min(first + _EACH, documents):,} of {documents:,} documents")
    listing = Listing(source=SOURCE, dtype="<u2", tokenizer=TOKENIZER, shards=shards)
    listing_file(folder, SOURCE).write_text(listing.model_dump_json())
    began = time.monotonic()
    write_index(Place(SOURCE, folder), shards)
    return time.monotonic() - began


def _shard(folder: Path, number: int, first: int, end: int) -> Shard:
    lengths = np.random.default_rng(number).geometric(1 / _MEAN, end - first)
    starts = np.cumsum(lengths) - lengths
    spans = SpansWriter(shard_file(folder, SOURCE, number, "spans"))
    for at in range(first, end, _AT_ONCE):
        after = min(at + _AT_ONCE, end)
        spans.extend([name_of(n) for n in range(at, after)], starts[at - first : after - first])
    spans.close()
    tokens = int(lengths.sum())
    counts = {"tokens": tokens, "documents": end - first, "sha256": "0" * 64}
    header = header_of(SOURCE, number, "<u2", TOKENIZER, dict(counts))
    raw = files.header_bytes(header)
    with shard_file(folder, SOURCE, number, "tokens").open("wb") as f:
        f.write(HEADER_MAGIC + len(raw).to_bytes(8, "little") + raw)
        f.truncate(f.tell() + 2 * tokens)
    return Shard(offset=16 + len(raw), tokens=tokens, documents=end - first, sha256="0" * 64)


def forget(folder: Path, shards: ShardSet) -> None:
    """Nothing of the source is mapped or in the page cache."""
    shards.documents.close()
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def read_bytes() -> int:
    """Bytes that this process had the disk read so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def measured(questions: Iterator[Callable[[], object]], turns: int, before: Callable[[], None]) -> tuple[list[float], float]:
    """Milliseconds of each question, and the mean of KiB read from the disk."""
    found, read = list[float](), 0
    for question in (next(questions) for _ in range(turns)):
        before()
        had, began = read_bytes(), time.perf_counter()
        question()
        found.append(1e3 * (time.perf_counter() - began))
        read += read_bytes() - had
    return found, read / turns / 1024


def look_up(folder: Path, turns: int) -> tuple[float, list[Record]]:
    """Milliseconds of opening, and both ways, cold and warm."""
    began = time.perf_counter()
    shards = ShardSet.open(folder, SOURCE, TOKENIZER)
    loader = Loader(plan(Mix(weights={SOURCE: 1.0}), {SOURCE: shards}, (len(shards) - 1) // LENGTH, LENGTH), seed=1)
    opened, draw, records = 1e3 * (time.perf_counter() - began), random.Random(1), list[Record]()

    def by_document() -> Iterator[Callable[[], object]]:
        while True:
            document = name_of(draw.randrange(len(shards.documents))).decode()
            yield lambda document=document: loader.instances_of(SOURCE, document)  # type: ignore[misc]

    def by_window() -> Iterator[Callable[[], object]]:
        while True:
            instance = draw.randrange(loader.plan.instances)
            yield lambda instance=instance: loader.documents(instance, 1)  # type: ignore[misc]

    def by_step() -> Iterator[Callable[[], object]]:
        while True:
            step = draw.randrange(loader.plan.instances // BATCH)
            yield lambda step=step: loader.documents(step * BATCH, BATCH)  # type: ignore[misc]

    for name, questions in (
        ("document to steps", by_document), ("window to documents", by_window), (f"step of {BATCH} windows", by_step),
    ):  # fmt: skip
        records.append((name, "cold", *measured(questions(), turns, lambda: forget(folder, shards))))
        asked = [question for question, _ in zip(questions(), range(turns), strict=False)]
        for question in asked:
            question()
        records.append((name, "warm", *measured(iter(asked), turns, lambda: None)))
    _check(loader, draw)
    return opened, records


def _check(loader: Loader, draw: random.Random) -> None:
    """Both ways agree: a document that a window holds is found in that window."""
    for _ in range(20):
        instance = draw.randrange(loader.plan.instances)
        [(source, _, documents)] = loader.documents(instance, 1)
        assert all(instance in loader.instances_of(source, document) for document in documents)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookup", description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the source is written; a temporary folder there")
    parser.add_argument("--turns", type=int, default=200)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        seconds = synthesise(folder, given.documents)
        ctypes.CDLL(None).sync()  # what is not on the disk yet stays in the page cache
        size = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        opened, records = look_up(folder, given.turns)
    print(f"{given.documents:,} documents, {size / 1e9:.1f} GB; index {seconds:.0f} s; opened in {opened:.0f} ms")
    print(f"{'':<22}{'':<6}{'median ms':>10}{'99 % ms':>10}{'KiB read':>10}")
    for name, how, times, kib in records:
        print(f"{name:<22}{how:<6}{np.median(times):>10.2f}{np.quantile(times, 0.99):>10.2f}{kib:>10.0f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
