"""Data: batches of a running and of a restarted loader, tokenisation, and a whole preparation, against the field's."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks import corpus, loaders, prepare
from benchmarks.common import Record, compared, in_turns, installed, main
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards

CHARACTERS, BATCHES = 3_000_000, 200
RESTART = 1_000_000  # instances of the sparse corpus that loaders are restarted on
STEP = 20_000


def run() -> Sequence[Record]:
    """Tokens per second of batches of 16 x 256 out of a running loader; seconds from nothing to batch 20,000 of a million
    instances; megabytes of text per second into shards, with one tokenizer for all, and of a whole preparation. One process,
    no workers."""
    documents = corpus.texts(CHARACTERS)
    tokenizer = Tokenizer.train((d.text for d in documents[:200]), 4096)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_shards(documents, "real", tokenizer, folder)
        shards = ShardSet.open(folder, "real", tokenizer.hash)
        body = folder / "real.u16"
        shards.tokens[:].tofile(body)
        tokenizer.save(folder)
        parts = [running(shards, body, folder), restarted(tokenizer, folder), prepare.tokenised(documents, folder)]
        return [record for part in [*parts, prepare.prepared(folder)] for record in part]


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
    contestants = {"Lehr": lehr, **installed(peers)}
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
    source = corpus.sparse(folder, RESTART, tokenizer)
    body = folder / "restart.u16"
    with body.open("wb") as f:
        f.truncate(2 * (RESTART * corpus.LENGTH + 1))

    def lehr() -> Any:
        return corpus.loader(ShardSet.open(folder, source, tokenizer.hash)).batch(STEP, 0, 1, loaders.ROWS)

    def core() -> Any:
        work = folder / "restart-core"
        shutil.rmtree(work, ignore_errors=True)  # a new job on a new machine
        return loaders.olmo_core_loader(body, work)[STEP]

    def sampler() -> Any:
        return loaders.torch_restart(body, STEP)

    peers = {"OLMo-core's NumPy loader": core, "torch's RandomSampler": sampler}
    if not installed({"OLMo-core's NumPy loader": lambda: core()}):
        del peers["OLMo-core's NumPy loader"]
    found = in_turns({"Lehr": lehr, **peers}, turns=3, warm=1)
    mine = found.pop("Lehr") * 1000
    case = "restart to batch 20,000 of 1 M instances"
    return [compared("data", case, mine, s * 1000, name, "ms", less_is_better=True) for name, s in found.items()]


if __name__ == "__main__":
    sys.exit(main("data", run))
