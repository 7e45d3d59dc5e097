"""torch.distributed.checkpoint on a folder: one safetensors file from each rank, and a manifest with their hashes, written
last. PyTorch plans which rank writes which block, exchanges the plans, and matches saved blocks with wanted ones; this module
only stores the bytes. PyTorch's own file writer uses pickle, while the files here hold data and never code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from lehr.artifacts.artifact import canonical, sha256_file, sha256_text, write_atomic, write_beside
from lehr.artifacts.tensors import save_tensors
from lehr.runtime.ports import ONLY_ATTEMPT, REMOTE, FencingToken

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Stored:
    """One block's file and key, and the file's size and hash."""

    file: str
    key: str
    bytes: int
    sha256: str
    remote_key: str = ""  # its object, if it was uploaded by a machine that shares no folder with the coordinator's


class FolderWriter(StorageWriter):
    """Writes one save into `folder`. The manifest contains `facts`; `complete` is called with the bytes on the coordinator once
    the manifest is written. An attempt whose fencing token is outdated completes no save."""

    def __init__(
        self, folder: Path, facts: dict[str, Any], complete: Callable[[int], None], fencing: FencingToken = ONLY_ATTEMPT
    ) -> None:
        self.folder, self.facts, self.complete, self.fencing = folder, facts, complete, fencing

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do: no state is kept from one save to the next."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Make the folder; if it holds an old save of the same step, delete its manifest before any file of it changes."""
        if is_coordinator:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.safetensors*"):
                old.unlink()

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [replace(plan, storage_data=f"shard-{rank:05d}.safetensors") for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's file (temporary name, fsync, rename) and hash it."""
        future: Future[list[WriteResult]] = Future()
        results: list[WriteResult] = []
        tensors = {_key(item.index): cast(Tensor, planner.resolve_data(item)) for item in plan.items}
        if tensors:
            path = self.folder / str(plan.storage_data)
            write_beside(path, lambda beside: save_tensors(tensors, beside))
            size, hash_ = path.stat().st_size, sha256_file(path)
            if remote_key := self.fencing.send(path):
                path.unlink()
            results = [
                WriteResult(i.index, size, Stored(path.name, _key(i.index), size, hash_, remote_key)) for i in plan.items
            ]
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the manifest last: without it the save does not exist."""
        stored: dict[MetadataIndex, Stored] = {r.index: r.storage_data for part in results for r in part}
        tensors = {name: _described(name, entry, stored) for name, entry in metadata.state_dict_metadata.items()}
        files = {s.file: {"bytes": s.bytes, "sha256": s.sha256} for s in stored.values()}
        content = {"facts": self.facts, "files": files, "tensors": tensors}
        text = json.dumps({"content": content, "sha256": sha256_text(canonical(content))})
        for part in {s.file: s for s in stored.values() if s.remote_key}.values():
            remote_key = {"object": part.remote_key, "bytes": part.bytes, "sha256": part.sha256}
            write_atomic(self.folder / f"{part.file}{REMOTE}", json.dumps(remote_key))
        with self.fencing.critical_section():
            write_atomic(self.folder / MANIFEST, text)
            self.complete(sum(int(str(f["bytes"])) for f in files.values()))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True


def _key(index: MetadataIndex) -> str:
    return f"{index.fqn}@{','.join(map(str, index.offset or ()))}"


def _described(name: str, entry: Any, stored: dict[MetadataIndex, Stored]) -> dict[str, Any]:
    blocks = []
    for chunk in entry.chunks:
        place = stored[MetadataIndex(name, chunk.offsets)]
        blocks.append({"offset": list(chunk.offsets), "size": list(chunk.sizes), "file": place.file, "key": place.key})
    dtype = str(entry.properties.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(entry.size), "blocks": blocks}


@dataclass(frozen=True)
class Manifest:
    """The content of a save's manifest."""

    folder: Path
    facts: dict[str, Any]
    files: dict[str, dict[str, Any]]
    tensors: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest, or None if it is missing or damaged."""
        try:
            said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            content = said["content"]
            if sha256_text(canonical(content)) != said["sha256"]:
                return None
            return cls(folder, content["facts"], content["files"], content["tensors"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def intact(self, rank: int = 0, world: int = 1) -> bool:
        """Whether files rank, rank + world, ... have the size and hash in the manifest."""
        for name in sorted(self.files)[rank::world]:
            path, said = self.folder / name, self.files[name]
            if not path.is_file() or path.stat().st_size != said["bytes"] or sha256_file(path) != said["sha256"]:
                return False
        return True

    def empty(self, name: str) -> Tensor:
        """Uninitialised memory for the whole of tensor `name`."""
        said = self.tensors[name]
        return torch.empty(said["shape"], dtype=getattr(torch, said["dtype"]))

    def read_whole(self, name: str) -> Tensor:
        """Tensor `name`, assembled from all of its blocks."""
        out = self.empty(name)
        for block in self.tensors[name]["blocks"]:
            here = tuple(slice(o, o + n) for o, n in zip(block["offset"], block["size"], strict=True))
            with safe_open(self.folder / block["file"], "pt") as file:
                out[here] = file.get_tensor(block["key"])
        return out


class FolderReader(StorageReader):
    """Reads those blocks of a save that a plan asks for."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do: no state is kept from one load to the next."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors: dict[str, Any] = {}
        places: dict[MetadataIndex, tuple[str, str]] = {}
        for name, said in self.manifest.tensors.items():
            chunks = [ChunkStorageMetadata(torch.Size(b["offset"]), torch.Size(b["size"])) for b in said["blocks"]]
            properties = TensorProperties(dtype=getattr(torch, said["dtype"]))
            tensors[name] = TensorStorageMetadata(properties, torch.Size(said["shape"]), chunks)
            places |= {MetadataIndex(name, torch.Size(b["offset"])): (b["file"], b["key"]) for b in said["blocks"]}
        return Metadata(tensors, storage_data=places)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self.places: dict[MetadataIndex, tuple[str, str]] = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read the wanted part of each block, and no more."""
        by_file: dict[str, list[Any]] = {}
        for item in plan.items:
            by_file.setdefault(self.places[item.storage_index][0], []).append(item)
        for name, items in by_file.items():
            with safe_open(self.manifest.folder / name, "pt") as file:
                for item in items:
                    key = self.places[item.storage_index][1]
                    span = tuple(slice(o, o + n) for o, n in zip(item.storage_offsets, item.lengths, strict=True))
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(file.get_slice(key)[span] if span else file.get_tensor(key))
                    planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True
