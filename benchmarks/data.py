"""Data: batches of a running and of a restarted loader, and tokenisation into shards, against the field's."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch

from benchmarks import corpus, loaders
from benchmarks.common import Record, compared, in_turns, main
from lehr.data.document import Document
from lehr.data.shards import ShardSet, write_shard
from lehr.data.tokenizer import Tokenizer

CHARACTERS, BATCHES = 3_000_000, 200
RESTART = 1_000_000  # instances of the sparse corpus that loaders are restarted on
STEP = 20_000


def run() -> Sequence[Record]:
    """Tokens per second of batches of 16 x 256 out of a running loader; seconds from nothing to batch 20,000 of a million
    instances; megabytes of text per second into shards, with one tokenizer for all. One process each, no workers."""
    documents = corpus.texts(CHARACTERS)
    tokenizer = Tokenizer.train((d.text for d in documents[:200]), 4096)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_shard(documents, "real", tokenizer, folder)
        shards = ShardSet.open(folder / "real.tokens", tokenizer.hash)
        body = folder / "real.u16"
        shards.tokens.tofile(body)
        return [*running(shards, body, folder), *restarted(tokenizer, folder), *tokenised(documents, tokenizer, folder)]


def running(shards: ShardSet, body: Path, folder: Path) -> list[Record]:
    """Batches in order, warm."""
    ours, steps = corpus.loader(shards), count()
    total = ours.plan.instances // loaders.ROWS

    def lehr() -> tuple[torch.Tensor, torch.Tensor]:
        batch = ours.batch(next(steps) % total, 0, 1, loaders.ROWS)
        return torch.from_numpy(batch.tokens_BT), torch.from_numpy(batch.labels_BT)

    peers: dict[str, Callable[[], loaders.Next]] = {
        "nanoGPT's memory map": lambda: loaders.nano_gpt(body),
        "OLMo-core's NumPy loader": lambda: loaders.olmo_core(body, folder / "core"),
        "HF datasets, packed": lambda: loaders.hugging_face(body, folder / "hf"),
        "litdata": lambda: loaders.litdata(body, folder / "lit"),
    }
    contestants = {"Lehr": lehr, **_installed(peers)}
    found = in_turns({name: lambda c=c: [c() for _ in range(BATCHES)] for name, c in contestants.items()}, turns=7)  # type: ignore[misc]
    tokens = BATCHES * loaders.ROWS * corpus.LENGTH
    notes = {"nanoGPT's memory map": "crops at random: some tokens twice, some never", "OLMo-core's NumPy loader": "no labels"}
    mine = tokens / found.pop("Lehr") / 1e6
    return [
        compared("data", "batches of 16 x 256", mine, tokens / s / 1e6, name, "M tokens/s", note=notes.get(name, ""))
        for name, s in sorted(found.items(), key=lambda item: item[1])
    ]


def restarted(tokenizer: Tokenizer, folder: Path) -> list[Record]:
    """From nothing to one batch in the middle of an epoch, all in one process."""
    path = corpus.sparse(folder, RESTART, tokenizer)
    body = folder / "restart.u16"
    with body.open("wb") as f:
        f.truncate(2 * (RESTART * corpus.LENGTH + 1))

    def lehr() -> Any:
        return corpus.loader(ShardSet.open(path, tokenizer.hash)).batch(STEP, 0, 1, loaders.ROWS)

    def core() -> Any:
        work = folder / "restart-core"
        shutil.rmtree(work, ignore_errors=True)  # a new job on a new machine
        return loaders.olmo_core_loader(body, work)[STEP]

    def sampler() -> Any:
        return loaders.torch_restart(body, STEP)

    peers = {"OLMo-core's NumPy loader": core, "torch's RandomSampler": sampler}
    if not _installed({"OLMo-core's NumPy loader": lambda: core()}):
        del peers["OLMo-core's NumPy loader"]
    found = in_turns({"Lehr": lehr, **peers}, turns=3, warm=1)
    mine = found.pop("Lehr") * 1000
    case = "restart to batch 20,000 of 1 M instances"
    return [compared("data", case, mine, s * 1000, name, "ms", less_is_better=True) for name, s in found.items()]


def tokenised(documents: list[Document], tokenizer: Tokenizer, folder: Path) -> list[Record]:
    """Text to token files, with the same tokenizer.json everywhere and one thread."""
    tokenizer.save(folder)
    names = {"datatrove": "DocumentTokenizer", "HF datasets map, packed": "run_clm's way"}
    peers = _installed(
        {
            "datatrove": lambda: _datatrove(documents, folder),
            "HF datasets map, packed": lambda: _hf_map(documents, folder),
        }
    )
    out = folder / "shards"
    out.mkdir()
    with _one_thread():
        found = in_turns({"Lehr": lambda: write_shard(documents, "out", Tokenizer.load(folder), out), **peers}, turns=3, warm=1)
    size = sum(len(d.text.encode()) for d in documents) / 1e6
    mine = size / found.pop("Lehr")
    return [compared("data", "text to shards", mine, size / s, name, "MB/s", note=names[name]) for name, s in found.items()]


def _datatrove(documents: list[Document], folder: Path) -> Callable[[], object]:
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()
    turns = count()

    def write() -> object:
        step = DocumentTokenizer(
            str(folder / f"trove{next(turns)}"), str(folder / "tokenizer.json"), eos_token="<|endoftext|>",
            shuffle_documents=False, save_final_metadata=False,
        )  # fmt: skip
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


def _installed(peers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Those peers that `make peers` has brought."""
    found = {}
    for name, make in peers.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} is not installed ({error}): make peers", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main("data", run))
