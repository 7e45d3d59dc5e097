"""Pieces as torch.distributed.checkpoint sees them: blocks to write, and memory to read into."""

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

from lehr.distributed.sharding.slices import Box, Pieces
from lehr.distributed.sharding.storage import FolderReader, Manifest


class Saved(Pieces):
    """Pieces with the methods by which PyTorch's planners ask what there is (its protocol `_Checkpointable`)."""

    def __create_write_items__(self, name: str, _: object) -> list[WriteItem]:
        return [
            WriteItem(
                MetadataIndex(name, torch.Size(box.offset)),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(_chunk(box), TensorProperties(dtype=box.tensor.dtype), torch.Size(self.shape)),
            )
            for box in self.boxes
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [_chunk(box) for box in self.boxes]

    def at(self, index: MetadataIndex) -> Tensor:
        """The block at the index's offset."""
        return next(box.tensor for box in self.boxes if torch.Size(box.offset) == index.offset)


def _chunk(box: Box) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(box.offset), box.tensor.shape)


def as_saved(pieces: Mapping[str, Pieces]) -> dict[str, Any]:
    """A state dict for PyTorch's checkpoints."""
    return {name: Saved(p.shape, p.boxes) for name, p in pieces.items()}


class SaveBlocks(DefaultSavePlanner):
    """Blocks that several ranks hold are written by one of them, so that every rank has about the same to write."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def lookup_object(self, index: MetadataIndex) -> Any:
        return self.state_dict[index.fqn].at(index)


class LoadBlocks(DefaultLoadPlanner):
    """Fills the memory of the state dict's pieces."""

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator
        self.flatten_state_dict = False

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        found: Tensor = self.state_dict[index.fqn].at(index)
        return found


def load(manifest: Manifest, pieces: Mapping[str, Pieces]) -> None:
    """Fill `pieces` from a save of whatever layout. Every rank reads for itself, without talking."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no process group takes part, which is meant
        load_checkpoint(as_saved(pieces), storage_reader=FolderReader(manifest), planner=LoadBlocks(), no_dist=True)
