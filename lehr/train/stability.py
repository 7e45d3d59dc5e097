"""How stable a stage was: the spike scores of its curves, and norms that show trouble before the loss does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lehr.optim.adamw import AdamW
from lehr.optim.groups import is_embedding
from lehr.optim.norms import norm as norm_of
from lehr.train.rollback_state import RollbackState
from lehr.train.state import TrainState

_WINDOW, _SIGMAS = 1000, 7.0
_FEWEST = 32  # values before a standard deviation is meaningful; OLMo 2 section 3.2 does not define the start of a series
_CHUNK = 4096


def spike_score(values: Sequence[float | None], window: int = _WINDOW, sigmas: float = _SIGMAS) -> float:
    """Percentage of `values` at least `sigmas` standard deviations above or below the mean of the up to `window` values before
    them (OLMo 2 section 3.2). A value that is missing or not finite counts as a spike and enters no mean.
    """
    series = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
    spikes = len(values) - len(series)
    for at in range(_FEWEST, min(window, len(series))):
        spikes += int(_stands_out(series[at : at + 1], series[None, :at], sigmas).sum())
    if len(series) > window:
        before = np.lib.stride_tricks.sliding_window_view(series, window)[:-1]
        for start in range(0, len(before), _CHUNK):  # in chunks: `std` over 1,000 values for each of a million steps needs 8 GB
            part = before[start : start + _CHUNK]
            spikes += int(_stands_out(series[window + start : window + start + len(part)], part, sigmas).sum())
    return 100.0 * spikes / len(values) if values else 0.0


def _stands_out(values: np.ndarray, before: np.ndarray, sigmas: float) -> np.ndarray:
    distance = np.abs(values - before.mean(axis=1))
    # distance > 0: a constant series has standard deviation 0, and none of its values is a spike.
    out: np.ndarray = (distance >= sigmas * before.std(axis=1)) & (distance > 0)
    return out


def summary(rows: Sequence[dict[str, Any]], rollbacks: RollbackState) -> dict[str, Any]:
    """The stability of a stage by its log, for the artifact's record: scores in percent, counts, batches left out."""
    steps = [row for row in rows if "loss" in row]
    return {
        "steps": len(steps),
        "skipped_steps": sum(bool(row.get("skipped")) for row in steps),
        "spike_score_loss_percent": spike_score([row["loss"] for row in steps]),
        "spike_score_grad_norm_percent": spike_score([row["grad_norm"] for row in steps]),
        "left_out": [[s.first, s.last] for s in rollbacks.skipped if s.first <= s.last],
    }


def _kind(name: str) -> str:
    if is_embedding(name):
        return "embedding"
    if "norm" in name:
        return "norms"
    return next((kind for kind in ("attention", "mlp") if f".{kind}." in name), "head")


@torch.no_grad()
def norms(state: TrainState, grad_norm: float) -> dict[str, float]:
    """`grad_norm_KIND`: the share of each kind of parameter in the global 2-norm `grad_norm` before clipping;
    `embedding_norm`: the mean 2-norm of the token embedding's rows (OLMo 2 section 3.4.2: small ones make large gradients in
    early layers). One transfer from the device, however many parameters. Empty if the norm is not finite, or if ranks hold
    parts of the gradients.
    """
    engine = state.optimizer
    if not math.isfinite(grad_norm) or not isinstance(engine, AdamW):
        return {}
    flat, start = engine.flat, 0
    kinds, found = [], []
    rows = None
    for name, shape in flat.order:
        end = start + math.prod(shape)
        kinds.append(_kind(name))
        found.append(norm_of(flat.grads[start:end]))
        if is_embedding(name):
            rows = flat.values[start:end].view(shape).norm(dim=1).mean()
        start = end
    values = torch.stack([*found, found[0] if rows is None else rows]).double().tolist()
    squares = dict.fromkeys(kinds, 0.0)
    for kind, value in zip(kinds, values, strict=False):
        squares[kind] += value * value
    clipped = math.sqrt(math.fsum(squares.values()))  # the gradients are clipped by now: scale the shares back to `grad_norm`
    scale = grad_norm / clipped if clipped else 0.0
    out = {f"grad_norm_{kind}": math.sqrt(square) * scale for kind, square in squares.items()}
    return out if rows is None else {**out, "embedding_norm": values[-1]}
