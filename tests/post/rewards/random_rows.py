"""Random conversations, and a small model that reads them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lehr.config.model import Model
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.preference import RenderedPair
from lehr.post.rendered import Rendered
from lehr.post.rewards.rows import with_head

CONFIG = Model(vocab_size=40, n_layers=2, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=48, init_std=0.3)


def policy() -> Transformer:
    return Transformer(CONFIG).initialise(1)


def reward_model(outputs: int = 1) -> ScalarModel:
    return with_head(policy(), outputs, seed=2)


def row(rng: np.random.Generator) -> Rendered:
    """A prompt, an answer, and sometimes what a template writes after the answer's end."""
    prompt, answer, after = rng.integers(2, 12), rng.integers(1, 16), rng.integers(0, 3)
    mask = [False] * prompt + [True] * answer + [False] * after
    return Rendered(rng.integers(2, 40, len(mask)).tolist(), mask)


def rows(count: int, seed: int) -> list[Rendered]:
    rng = np.random.default_rng(seed)
    return [row(rng) for _ in range(count)]


def pairs(count: int, seed: int) -> list[RenderedPair]:
    found = rows(2 * count, seed)
    return [RenderedPair(*found[2 * i : 2 * i + 2]) for i in range(count)]


def plain_numbers(model: ScalarModel, found: list[Rendered]) -> Tensor:
    """(R, K), by hand: rows padded on the right, the head at the last token of each answer; nothing packed."""
    longest = max(len(r.ids) for r in found)
    tokens_RT = torch.tensor([r.ids + [1] * (longest - len(r.ids)) for r in found])
    hidden_RTD = model.hidden(tokens_RT)
    lasts_R = [int(np.flatnonzero(r.mask)[-1]) for r in found]
    return hidden_RTD[range(len(found)), lasts_R] @ model.score.weight.T


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Those of all parameters, which are cleared."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
