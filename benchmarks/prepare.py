"""Text to token files: tokenisation alone, and a whole preparation with filters and deduplication, against the field's."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from benchmarks import corpus, loaders
from benchmarks.common import Record, compared, in_turns, installed
from lehr.config.data import Data
from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.config.filters.quality import GopherQualityFilter, GopherRepetitionFilter
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.dedup.minhash import bands_for
from lehr.data.document import Document, read_jsonl, write_jsonl
from lehr.data.preparation.corpus import prepare_corpus
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards

PREPARED = 3_000_000  # characters


def tokenised(documents: list[Document], folder: Path) -> list[Record]:
    """Text to token files, with the tokenizer.json of `folder` everywhere and one thread."""
    names = {"datatrove": "DocumentTokenizer", "HF datasets map, packed": "run_clm's way"}
    peers = installed(
        {
            "datatrove": lambda: _datatrove(documents, folder),
            "HF datasets map, packed": lambda: _hf_map(documents, folder),
        }
    )
    out = folder / "shards"
    out.mkdir()
    with _one_thread():
        mine_too = {"Lehr": lambda: write_shards(documents, "out", Tokenizer.load(folder), out), **peers}
        found = in_turns(mine_too, turns=3, warm=1)
    size = sum(len(d.text.encode()) for d in documents) / 1e6
    mine = size / found.pop("Lehr")
    return [compared("data", "text to shards", mine, size / s, name, "MB/s", note=names[name]) for name, s in found.items()]


def prepared(folder: Path) -> list[Record]:
    """A compressed JSON-lines file to token files, by way of quality and repetition filters that end at the first failure; then
    the same without near-duplicates, with as many bands and rows of MinHash for both."""
    documents = corpus.texts(PREPARED)
    source = folder / "pack" / "pack.jsonl.gz"
    write_jsonl(source, ({"id": d.id, "text": d.text} for d in documents))
    size = sum(len(d.text.encode()) for d in documents) / 1e6
    found = list[Record]()
    for near, case, target in ((None, "documents to shards", 1.0), (NearDuplicates(), "the same, near-duplicates out", 10.0)):
        mine = _ours(source, folder, near)
        peers = installed({"datatrove": lambda n=near: _datatrove_pipeline(source.parent, folder, n)})  # type: ignore[misc]
        with _one_thread():
            seconds = in_turns({"Lehr": mine, **peers}, turns=3, warm=1, clock=time.process_time)
        own = size / seconds.pop("Lehr")
        note = "Lehr also compares pairs in truth, removes copies, splits, decontaminates; datatrove: Gopher's rules, tokens"
        found += [compared("data", case, own, size / s, n, "MB/CPU s", note=note, target=target) for n, s in seconds.items()]
    return found


def _ours(source: Path, folder: Path, near: NearDuplicates | None) -> Callable[[], None]:
    pack = FilesSource(kind="jsonl", path=str(source), license="as shipped")
    copies, out = Deduplication(fuzzy=near), folder / "prepared"
    rules = {"gopher_repetition": GopherRepetitionFilter(), "gopher_quality": GopherQualityFilter()}  # `filters` has no default
    mixes = {"all": Mix(weights={"pack": 1})}
    data = Data(sources={"pack": pack}, mixes=mixes, filters=rules, deduplication=copies)

    def lehr() -> None:
        shutil.rmtree(out, ignore_errors=True)
        prepare_corpus(data, {}, lambda name, source: [], out, folder / "scratch")
        write_shards(read_jsonl(out / "documents/pack.jsonl.gz", "pack"), "pack", Tokenizer.load(folder), out)

    return lehr


def _datatrove_pipeline(source: Path, folder: Path, near: NearDuplicates | None) -> Callable[[], object]:
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.text import split_into_words

    split_into_words("Loads its word splitter, which is a package of its own.")
    turns = count()

    def write() -> object:
        documents = JsonlReader(str(source)).run(None, 0, 1)
        for keep in (GopherRepetitionFilter(), GopherQualityFilter()):
            documents = keep.run(documents, 0, 1)
        turn = next(turns)
        if near:
            documents = _without_near_duplicates([*documents], folder / f"minhash{turn}", near)
        return _datatrove_tokenizer(folder, f"filtered{turn}").run(documents, 0, 1)

    return write


def _without_near_duplicates(documents: list[Any], place: Path, near: NearDuplicates) -> Any:
    """datatrove's four steps, over documents in memory: signatures, pairs of each bucket, clusters, what is left."""
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.utils.hashing import HashConfig

    bands, rows = bands_for(near.threshold, near.permutations, near.recall)
    sha1 = HashConfig(hash_fc="sha1")  # its xxhash is given str, which xxhash 4 does not take
    config = MinhashConfig(n_grams=near.shingle_words, num_buckets=bands, hashes_per_bucket=rows, hash_config=sha1)
    signatures, pairs, removed = (str(place / name) for name in ("signatures", "buckets", "remove"))
    MinhashDedupSignature(signatures, config=config).run(iter(documents), 0, 1)
    for bucket in range(bands):
        MinhashDedupBuckets(signatures, pairs, config=config).run(None, bucket, bands)
    MinhashDedupCluster(pairs, removed, config=config).run(None, 0, 1)
    return MinhashDedupFilter(removed).run(iter(documents), 0, 1)


def _datatrove_tokenizer(folder: Path, name: str) -> Any:
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()
    return DocumentTokenizer(
        str(folder / name), str(folder / "tokenizer.json"), eos_token="<|endoftext|>", shuffle_documents=False,
        save_final_metadata=False,
    )  # fmt: skip


def _datatrove(documents: list[Document], folder: Path) -> Callable[[], object]:
    from datatrove.data import Document as Theirs

    turns = count()

    def write() -> object:
        step = _datatrove_tokenizer(folder, f"trove{next(turns)}")
        return step.run(iter([Theirs(text=d.text, id=d.id) for d in documents]), 0, 1)

    return write


def _hf_map(documents: list[Document], folder: Path) -> Callable[[], object]:
    """Tokenise in batches, then concatenate and cut into blocks, both with `map`, saved as arrow files."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    turns = count()

    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tokens(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[*encoded.ids, 0] for encoded in library.encode_batch_fast(batch["text"])]}

    def blocks(batch: dict[str, list[list[int]]]) -> dict[str, Any]:
        ids = np.concatenate([np.array(i, dtype=np.uint16) for i in batch["ids"]])
        return {"ids": ids[: len(ids) // corpus.LENGTH * corpus.LENGTH].reshape(-1, corpus.LENGTH)}

    def write() -> object:
        turn = next(turns)  # names the steps, so that nothing is hashed or found again
        table = loaders.table({"text": [d.text for d in documents]}, None, f"text{turn}")
        kind = datasets.Features({"ids": datasets.Sequence(datasets.Value("uint16"))})
        table = table.map(tokens, batched=True, remove_columns=["text"], features=kind, new_fingerprint=f"tokens{turn}")
        table = table.map(blocks, batched=True, features=kind, new_fingerprint=f"blocks{turn}")
        return table.save_to_disk(str(folder / f"map{turn}"))

    return write


@contextmanager
def _one_thread() -> Iterator[None]:
    """The tokenizers library on one thread, as everything else here."""
    kept = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        del os.environ["TOKENIZERS_PARALLELISM"]
        if kept is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = kept
