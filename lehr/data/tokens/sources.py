"""The shards of all sources of a corpus: made, gone on with after a kill, or taken from an earlier artifact."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from lehr.artifacts.artifact import Artifact, sha256_file
from lehr.artifacts.elsewhere import elsewhere
from lehr.artifacts.object_store.ranges import bring
from lehr.data.kept import FOLDER, kept_file
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.encoding import Encoded, in_order, of_lines, pieces
from lehr.data.tokens.files import Listing, listing_file, read_listing, shard_file
from lehr.data.tokens.writing import KINDS, Place, finished, write_source
from lehr.pipeline.attempt import Attempt
from lehr.runtime.errors import UserError
from lehr.runtime.ports import RESUME

_SMALL = 16 << 20  # bytes of compressed documents below which starting processes costs more than they save


class Wish(Protocol):
    """What the recipe says of shards."""

    @property
    def tokens(self) -> int: ...
    @property
    def processes(self) -> int: ...


@dataclass
class Sources:
    """`folder` is the tokenizer's. Finished shards lie in the scratch, under RESUME, where a store keeps them too, until the
    artifact is published. `code` is the version of the code that makes them."""

    corpus: Artifact
    folder: Path
    tokenizer: Tokenizer
    wish: Wish
    code: str
    attempt: Attempt

    @property
    def _saved(self) -> Path:
        return self.attempt.scratch / RESUME / "shards"

    def documents(self, source: str) -> str:
        """The SHA-256 of a source's kept documents, as their artifact says."""
        return self.corpus.manifest.files[f"{FOLDER}/{source}.jsonl.gz"].sha256

    def make(self, source: str) -> Listing:
        """Raises UserError for damaged documents, and what the attempt's token raises if a newer attempt has begun."""
        self._saved.mkdir(parents=True, exist_ok=True)
        if not listing_file(self._saved, source).is_file() and not self._taken(source):
            self._write(source)
        return read_listing(self._saved, source)

    def _write(self, source: str) -> None:
        for left in self._saved.glob(f".{source}*"):  # of an attempt that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        place = Place(source, self._saved, self.wish.tokens, self._commit)
        done = finished(place)
        more = f" after {len(done)} finished shards" if done else ""
        self.attempt.tracker.note(f"tokenizing {source}{more}")
        path = kept_file(self.corpus, source)
        rest = pieces(path, source, sum(shard.documents for shard in done))
        write_source(self._encoded(path, rest), self.tokenizer, place, done)

    def _encoded(self, path: Path, rest: Iterator[Any]) -> Iterator[Encoded]:
        cores = len(os.sched_getaffinity(0)) if path.stat().st_size >= _SMALL else 1
        workers = self.wish.processes or cores
        return in_order(rest, self.folder, workers) if workers > 1 else (of_lines(piece, self.tokenizer) for piece in rest)

    def _commit(self, renames: Callable[[], None]) -> None:
        """A finished shard is the attempt's, and in a store it is uploaded and named by the attempt's record."""
        with self.attempt.fencing.critical_section():
            renames()
            self.attempt.fencing.upload()
        self.attempt.saved()

    def finish(self) -> None:
        """Put all files into the artifact, as hard links: until it is published, the next attempt finds them here."""
        self.attempt.fencing.flush()
        for file in sorted(self._saved.iterdir()):
            if not file.name.startswith(".") and file.suffix != ".done":
                _link(file, self.attempt.out / file.name)

    # -- from earlier artifacts

    @cached_property
    def _earlier(self) -> list[Artifact]:
        """Artifacts of this stage made of the same tokenizer by the same code in shards of the same size."""
        store = self.attempt.context.store
        found = [store.described(uri) for uri in store.earlier(self.attempt.name)]
        return [artifact for artifact in found if self._alike(artifact)]

    def _alike(self, artifact: Artifact) -> bool:
        m = artifact.manifest
        made = (m.code, m.config.get("tokens"), m.meta.get("tokenizer"))
        return m.kind == "shards" and made == (self.code, self.wish.tokens, self.tokenizer.hash)

    def _taken(self, source: str) -> bool:
        for artifact in self._earlier:
            made_of = artifact.manifest.meta.get("documents")
            if isinstance(made_of, dict) and made_of.get(source) == self.documents(source) and self._take(source, artifact):
                self.attempt.tracker.note(f"{source}: tokens of {Path(artifact.uri).name}, made of the same documents")
                return True
        return False

    def _take(self, source: str, artifact: Artifact) -> bool:
        """Link the source's files; False if one of them is damaged or gone, and then the source is made anew."""
        try:
            folder = self.attempt.context.store.fetch(artifact.uri)
            there, listing = elsewhere(folder), read_listing(folder, source)
            shards = range(len(listing.shards))
            names = [shard_file(folder, source, number, kind).name for number in shards for kind in KINDS]
            names += f"{source}.ids", listing_file(folder, source).name
            for name in names:  # the list of shards last: with it the source is done
                record = artifact.manifest.files[name]
                path = bring(folder, there, name) if there is not None and name in there.files else folder / name
                if sha256_file(path) != record.sha256:
                    return False
                (self._saved / name).unlink(missing_ok=True)
                _link(path, self._saved / name)
        except (UserError, KeyError, OSError):
            return False
        return True


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:  # a file system without hard links, or another one
        shutil.copyfile(file, to)
