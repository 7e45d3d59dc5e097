"""Slices for torch.distributed.checkpoint: blocks to write, and memory to read into."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint

from lehr.distributed.sharding.slices import Chunk, Slices
from lehr.distributed.sharding.storage import FolderReader, Manifest


class Saved(Slices):
    """Slices with the methods through which PyTorch's planners list blocks (its protocol `_Checkpointable`)."""

    def __create_write_items__(self, name: str, _: object) -> list[WriteItem]:
        return [
            WriteItem(
                MetadataIndex(name, torch.Size(chunk.offset)),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(_chunk(chunk), TensorProperties(dtype=chunk.tensor.dtype), torch.Size(self.shape)),
            )
            for chunk in self.chunks
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [_chunk(chunk) for chunk in self.chunks]

    def at(self, index: MetadataIndex) -> Tensor:
        """The block at the index's offset."""
        return next(chunk.tensor for chunk in self.chunks if torch.Size(chunk.offset) == index.offset)


def _chunk(chunk: Chunk) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(chunk.offset), chunk.tensor.shape)


def as_saved(slices: Mapping[str, Slices]) -> dict[str, Any]:
    """A state dict for PyTorch's checkpoints."""
    return {name: Saved(p.shape, p.chunks) for name, p in slices.items()}


class SaveBlocks(DefaultSavePlanner):
    """Blocks that several ranks hold are written by one of them, so that all ranks write about the same amount."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def lookup_object(self, index: MetadataIndex) -> Any:
        return self.state_dict[index.fqn].at(index)


class LoadBlocks(DefaultLoadPlanner):
    """Fills the memory of the state dict's chunks."""

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator
        self.flatten_state_dict = False

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        found: Tensor = self.state_dict[index.fqn].at(index)
        return found


def load(manifest: Manifest, slices: Mapping[str, Slices]) -> None:
    """Fill `slices` from a save of any layout. Every rank reads by itself, without collectives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that no process group takes part, which is intended
        load_checkpoint(as_saved(slices), storage_reader=FolderReader(manifest), planner=LoadBlocks(), no_dist=True)
