"""Which device a rank computes on. Models, batches and optimiser state go there; `to` a CPU copies nothing."""

from __future__ import annotations

import torch

from lehr.distributed.ranks import Ranks
from lehr.runtime.environment import whole


def own_device(ranks: Ranks) -> torch.device:
    """This rank's GPU if its machine has one for each of its ranks, otherwise the CPU."""
    local_world = whole("LOCAL_WORLD_SIZE", ranks.world)
    if not torch.cuda.is_available() or torch.cuda.device_count() < local_world:
        return torch.device("cpu")
    device = torch.device("cuda", whole("LOCAL_RANK", ranks.rank))
    torch.cuda.set_device(device)
    return device
