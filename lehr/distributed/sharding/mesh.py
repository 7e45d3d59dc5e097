"""The device mesh of a recipe: each rank's coordinates, and the device on which it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from lehr.config.parallel import Parallel
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks

# Tensor parallelism communicates in every layer: its ranks are innermost, and so neighbours on one host.
_DIMENSIONS = ("pipeline", "replicate", "shard", "tensor")


@dataclass(frozen=True)
class MeshCoordinates:
    """This rank's coordinates in the mesh, and the sizes of its four dimensions."""

    mesh: DeviceMesh
    parallel: Parallel
    device: torch.device
    activations: torch.dtype  # of the computation
    stage: int
    replica: int
    shard: int
    tensor: int
    ends: dist.ProcessGroup | None  # the first and the last stage of this pipeline; None on other stages

    @property
    def data(self) -> Ranks:
        """This rank's share of a batch: the ranks of one pipeline or of one tensor group read the same rows."""
        p = self.parallel
        return Ranks(self.replica * p.shards + self.shard, p.data_ranks)

    @property
    def counts(self) -> bool:
        """Whether this rank reports losses and token counts for its replica of the model."""
        return self.tensor == 0 and self.last

    @property
    def first(self) -> bool:
        return self.stage == 0

    @property
    def last(self) -> bool:
        return self.stage == self.parallel.pipeline - 1

    def group(self, dimension: str) -> dist.ProcessGroup:
        """The process group of one dimension."""
        return self.mesh.get_group(dimension)

    @property
    def fsdp_mesh(self) -> DeviceMesh:
        """The mesh over which FSDP2 shards: one dimension, or replicate and shard for hybrid sharding."""
        return self.mesh["replicate", "shard"] if self.parallel.replicas > 1 else self.mesh["shard"]


def mesh_coordinates(ranks: Ranks, parallel: Parallel, activations: torch.dtype) -> MeshCoordinates:
    """Make the mesh. A collective: every rank calls it once for each stage, after the process group exists."""
    device = own_device(ranks)
    sizes = (parallel.pipeline, parallel.replicas, parallel.shards, parallel.tensor)
    mesh = init_device_mesh(device.type, sizes, mesh_dim_names=_DIMENSIONS)
    stage, replica, shard, tensor = mesh.get_coordinate() or (0, 0, 0, 0)
    return MeshCoordinates(mesh, parallel, device, activations, stage, replica, shard, tensor, _ends(mesh, parallel))


def _ends(mesh: DeviceMesh, parallel: Parallel) -> dist.ProcessGroup | None:
    """The group of the first and the last stage, which share a tied embedding. Every rank makes the groups of all pipelines, in
    the same order, since `new_group` is a collective over all ranks."""
    if parallel.pipeline == 1:
        return None
    mine = None
    columns = mesh.mesh.view(parallel.pipeline, -1)
    for pair in torch.stack([columns[0], columns[-1]], dim=1).tolist():
        group = dist.new_group(pair)
        if dist.get_rank() in pair:
            mine = group
    return mine
