"""Which parameters share a learning rate and weight decay: AdamW's groups, by the parameters' names."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.config.model import Model
from lehr.config.optim import Optim


@dataclass(frozen=True, order=True)  # ordered: FlatParameters sorts by group
class Group:
    """`lr_scale` multiplies the schedule's learning rate; `decays`: weight decay applies."""

    decays: bool
    lr_scale: float


def group_of(name: str, dimensions: int, config: Model, optim: Optim) -> Group:
    """The group of parameter `name` with `dimensions` axes.

    Decay: OLMo 2 exempts the embeddings and nothing else (OLMo 2 section 3.4.2: decayed ones become small, and small
    embeddings make large gradients in early layers). Under muP the matrices inside the blocks learn at lr / m_width,
    embeddings and norms at lr (Granite 3.0 Table 2); an untied head is an output matrix and learns at lr / m_width too.
    """
    embedding = is_embedding(name)
    matrix = dimensions > 1 and not embedding
    decays = optim.decay_embeddings if embedding else (matrix or optim.decay_norms)
    return Group(decays, 1.0 / config.width_multiplier if matrix else 1.0)


def is_embedding(name: str) -> bool:
    """Whether `name` is the input embedding's weight."""
    return name.split(".")[-2:] == ["embed", "weight"]
