"""The peers' loaders over the same tokens, each as a function that gives its next batch of 16 x 256."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.corpus import LENGTH

ROWS = 16
Next = Callable[[], Any]


def nano_gpt(body: Path) -> Next:
    """nanoGPT's way: random crops of a memory map that is opened anew for each batch (its guard against a leak)."""

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        data = np.memmap(body, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - LENGTH, (ROWS,))
        x = torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in starts])
        return x, y

    return batch


def olmo_core_loader(body: Path, work: Path) -> Any:
    """OLMo-core's loader over a raw array, shuffled: it writes the epoch's order into a file of four bytes an instance."""
    from olmo_core.data import DataCollator, NumpyFSLDataset
    from olmo_core.data.data_loader import NumpyDataLoaderBase

    logging.disable(logging.WARNING)
    dataset = NumpyFSLDataset(
        body, sequence_length=LENGTH, pad_token_id=1, eos_token_id=0, vocab_size=50_000, include_instance_metadata=False
    )
    dataset.prepare()
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset, global_batch_size=ROWS * LENGTH, collator=DataCollator(pad_token_id=1), work_dir=work, num_workers=0
    )
    loader.reshuffle(epoch=1)
    return loader


def olmo_core(body: Path, work: Path) -> Next:
    """OLMo-core's batches in order, by its own iteration. It gives no labels: training shifts them."""
    return _endless(lambda: iter(olmo_core_loader(body, work)))


def hugging_face(body: Path, work: Path) -> Next:
    """A packed `datasets` table on disk under torch's DataLoader, shuffled, in this process."""
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    data = np.fromfile(body, dtype=np.uint16)
    windows = data[: (len(data) - 1) // LENGTH * LENGTH].reshape(-1, LENGTH)
    rows = np.concatenate([windows, data[LENGTH::LENGTH][: len(windows), None]], axis=1)
    features = datasets.Features({"ids": datasets.Sequence(datasets.Value("uint16"), length=LENGTH + 1)})
    table({"ids": list(rows)}, features, "packed").save_to_disk(str(work))
    packed = datasets.load_from_disk(str(work)).with_format("torch")

    def split(items: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.stack([i["ids"].long() for i in items])
        return ids[:, :-1], ids[:, 1:]

    return _endless(lambda: iter(DataLoader(packed, batch_size=ROWS, shuffle=True, drop_last=True, collate_fn=split)))


def table(columns: dict[str, Any], features: Any, name: str) -> Any:
    """A `datasets` table named by hand: its own name is a hash through dill, which fails for packages outside site-packages."""
    import datasets
    import pyarrow as pa
    from datasets.table import InMemoryTable

    arrow = pa.table(columns, schema=features.arrow_schema) if features else pa.table(columns)
    return datasets.Dataset(InMemoryTable(arrow), fingerprint=name)


def litdata(body: Path, work: Path) -> Next:
    """litgpt's way: litdata chunks with a token loader, shuffled, in this process."""
    from litdata import StreamingDataset, TokensLoader
    from litdata.streaming.writer import BinaryWriter
    from torch.utils.data import DataLoader

    logging.disable(logging.WARNING)
    work.mkdir()
    tokens = torch.from_numpy(np.fromfile(body, dtype=np.uint16))
    writer = BinaryWriter(str(work), item_loader=TokensLoader(block_size=LENGTH + 1), chunk_size=(LENGTH + 1) * 4096)
    for number, part in enumerate(tokens.split(100_000)):
        writer.add_item(number, part)
    writer.done()
    writer.merge()
    dataset = StreamingDataset(str(work), item_loader=TokensLoader(block_size=LENGTH + 1), shuffle=True)

    def split(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.stack(items).long()
        return ids[:, :-1], ids[:, 1:]

    return _endless(lambda: iter(DataLoader(dataset, batch_size=ROWS, drop_last=True, collate_fn=split)))


def torch_restart(body: Path, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """From nothing to the batch of `step` with torch's own sampler, whose order is a list of all numbers; the batches before
    are passed over without reading them, as accelerate does."""
    from torch.utils.data import BatchSampler, RandomSampler

    data = np.memmap(body, dtype=np.uint16, mode="r")
    sampler = RandomSampler(range((len(data) - 1) // LENGTH), generator=torch.Generator().manual_seed(0))
    numbers = next(itertools.islice(iter(BatchSampler(sampler, ROWS, drop_last=True)), step, None))
    ids = torch.stack([torch.from_numpy(data[i * LENGTH : i * LENGTH + LENGTH + 1].astype(np.int64)) for i in numbers])
    return ids[:, :-1], ids[:, 1:]


def _endless(begin: Callable[[], Iterator[Any]]) -> Next:
    it = begin()

    def batch() -> Any:
        nonlocal it
        try:
            return next(it)
        except StopIteration:
            it = begin()
            return next(it)

    return batch
