"""Text to token files: tokenisation alone, and a whole preparation with filters and deduplication, against the field's."""

from __future__ import annotations

import os
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
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
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
    """A compressed JSON-lines file to token files, by way of quality and repetition filters that end at the first failure."""
    documents = corpus.texts(PREPARED)
    source = folder / "pack" / "pack.jsonl.gz"
    write_jsonl(source, ({"id": d.id, "text": d.text} for d in documents))
    out = folder / "prepared"
    pack = FilesSource(kind="jsonl", path=str(source), license="as shipped")
    data = Data(sources={"pack": pack}, mixes={"all": Mix(weights={"pack": 1})})

    def lehr() -> None:
        prepare_corpus(data, {}, lambda name, source: [], out, folder / "scratch")
        write_shards(read_jsonl(out / "documents/pack.jsonl.gz", "pack"), "pack", Tokenizer.load(folder), out)

    peers = installed({"datatrove": lambda: _datatrove_pipeline(source.parent, folder)})
    with _one_thread():
        found = in_turns({"Lehr": lehr, **peers}, turns=3, warm=1, clock=time.process_time)
    size = sum(len(d.text.encode()) for d in documents) / 1e6
    mine, case = size / found.pop("Lehr"), "documents to shards"
    note = "Lehr also deduplicates, splits and decontaminates; datatrove here: Gopher repetition and quality, tokens"
    return [compared("data", case, mine, size / s, name, "MB/CPU s", note=note) for name, s in found.items()]


def _datatrove_pipeline(source: Path, folder: Path) -> Callable[[], object]:
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.text import split_into_words

    split_into_words("Loads its word splitter, which is a package of its own.")
    turns = count()

    def write() -> object:
        documents = JsonlReader(str(source)).run(None, 0, 1)
        for keep in (GopherRepetitionFilter(), GopherQualityFilter()):
            documents = keep.run(documents, 0, 1)
        return _datatrove_tokenizer(folder, f"filtered{next(turns)}").run(documents, 0, 1)

    return write


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
