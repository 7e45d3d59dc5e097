"""Log-probabilities of given continuations in padded batches: for a model that is divided among ranks, which keeps no cache.
Each of its calls gathers weights or sums over ranks, so that many short ones would cost more than what they share.

Shapes: B requests, T columns, N tokens of a continuation, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from lehr.model.score_plan import Path
from lehr.model.transformer import Transformer
from lehr.runtime.errors import diverged

Scored = tuple[float, int, bool]
_TOKENS = 8192  # padded tokens of a batch


@torch.no_grad()
def scored_in_batches(model: Transformer, paths: Sequence[Path], pad: int) -> list[Scored]:
    """See lehr.model.score.scored_paths. The same requests in the same order give the same bits, and others beside them
    do not: a batch's shape is that of all its requests."""
    found: list[Scored] = [(0.0, 0, True)] * len(paths)
    order = sorted((i for i, path in enumerate(paths) if path.units), key=lambda i: -paths[i].size)
    for batch in _batches(order, [path.size for path in paths]):
        for i, one in zip(batch, _scored(model, [paths[i] for i in batch], pad), strict=True):
            found[i] = one
    return found


def _scored(model: Transformer, paths: Sequence[Path], pad: int) -> list[Scored]:
    rows = [[token for unit in path.units for token in unit.ids] for path in paths]
    tokens_BT = torch.full((len(rows), max(map(len, rows))), pad)
    for b, ids in enumerate(rows):
        tokens_BT[b, : len(ids)] = torch.tensor(ids)
    hidden_BTD = model.hidden(tokens_BT.to(model.cos.device))
    found = []
    for b, (ids, path) in enumerate(zip(rows, paths, strict=True)):
        n = len(path.answer)
        logits_NV = model.logits(hidden_BTD[b, len(ids) - n : len(ids)]).float()
        target_N = torch.tensor(path.answer, device=logits_NV.device)
        picked_N = torch.log_softmax(logits_NV, dim=-1).gather(1, target_N[:, None])[:, 0]
        total = math.fsum(picked_N.tolist())
        if math.isnan(total):
            raise diverged("the model's probabilities are not finite")
        found.append((total, n, bool((logits_NV.argmax(dim=-1) == target_N).all())))
    return found


def _batches(order: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Divide `order` (longest first) into batches of at most _TOKENS padded tokens."""
    groups: list[list[int]] = []
    for i in order:
        if groups and sizes[groups[-1][0]] * (len(groups[-1]) + 1) <= _TOKENS:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
