"""Padded rows computed without their padding: one after the other in a single row, not seeing each other. Shapes: B rows, T
columns."""

from __future__ import annotations

import torch
from torch import Tensor

from lehr.model.attention import Documents
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.train.losses import IGNORE, token_logprobs


def unpadded_logprobs(model: Transformer, tokens_BT: Tensor, labels_BT: Tensor, temperature: float) -> Tensor:
    """`token_logprobs` of right-padded rows, each up to its last label: (B, T)."""
    real_BT, rows = _real(labels_BT)
    out_BT = torch.zeros(labels_BT.shape, dtype=torch.float32, device=tokens_BT.device)
    if not rows.lengths:
        return out_BT
    found_1N = token_logprobs(model, tokens_BT[real_BT][None], labels_BT[real_BT][None], temperature, rows)
    return out_BT.masked_scatter(real_BT, found_1N)


def unpadded_values(model: ScalarModel, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """The values of right-padded rows, each up to its last label and 0 after it: (B, T)."""
    real_BT, rows = _real(labels_BT)
    out_BT = torch.zeros(labels_BT.shape, dtype=torch.float32, device=tokens_BT.device)
    if not rows.lengths:
        return out_BT
    return out_BT.masked_scatter(real_BT, model.values(tokens_BT[real_BT][None], rows))


def real_tokens(labels_BT: Tensor) -> int:
    """How many tokens are computed of rows with these labels."""
    return sum(_real(labels_BT)[1].lengths)


def _real(labels_BT: Tensor) -> tuple[Tensor, Documents]:
    """Which positions lie before or at a row's last label, and how many there are in each row that has any."""
    column_T = torch.arange(1, labels_BT.shape[1] + 1, device=labels_BT.device)
    length_B = torch.where(labels_BT != IGNORE, column_T, 0).amax(dim=1) if labels_BT.numel() else labels_BT.new_zeros(0)
    return column_T <= length_B[:, None], Documents(tuple(n for n in length_B.tolist() if n))
