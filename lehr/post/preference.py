"""DPO (Rafailov et al. 2023) on preference pairs, length-normalised by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.post.sft import Rendered, pad, rows_of_step
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, token_logprobs
from lehr.train.step_times import backpropagate


@dataclass(frozen=True)
class RenderedPair:
    """Two answers to one prompt, each preceded by the prompt, with the loss mask on the answer."""

    chosen: Rendered
    rejected: Rendered


def mean_logprobs(model: Transformer, rows: Sequence[Rendered], pad_id: int) -> tuple[Tensor, Tensor]:
    """For each row: the mean log-probability of the masked tokens in nats, shape (B,), and their number, shape (B,)."""
    tokens_BT, labels_BT = pad(rows, pad_id, model.cos.device)
    lengths_B = (labels_BT != IGNORE).sum(dim=1)
    return token_logprobs(model, tokens_BT, labels_BT).sum(dim=1) / lengths_B, lengths_B


def dpo_loss(
    chosen_B: Tensor, rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor, beta: float
) -> Tensor:
    """-log sigmoid(beta * margin) per pair, shape (B,). With mean log-probabilities per token this is `dpo_norm`, the
    variant of OLMo 2's post-training (Rafailov et al. 2023 equation 7; Meng et al. 2024 for the normalisation)."""
    margin_B = (chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B)
    return -F.logsigmoid(beta * margin_B)


@dataclass(frozen=True)
class DpoSettings:
    """`nll` weighs the chosen answer's own negative log-likelihood per token. `normalised` uses mean log-probabilities per
    token (`dpo_norm`), otherwise sums over the whole answer, as in Rafailov et al."""

    batch_size: int
    beta: float
    nll: float
    normalised: bool = True


class DpoObjective:
    """Sum of pair losses plus `nll` times the chosen answers' mean negative log-likelihood; `weight` counts pairs."""

    extras: tuple[str, ...] = ("margin", "preference_accuracy")

    def __init__(
        self,
        model: Transformer,
        reference: Transformer,
        pairs: Sequence[RenderedPair],
        settings: DpoSettings,
        seed: int,
        pad_id: int,
    ) -> None:
        self.model, self.reference, self.pairs = model, reference, pairs
        self.settings, self.seed, self.pad_id = settings, seed, pad_id

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s = self.settings
        rows = ranks.split(rows_of_step(step, s.batch_size, len(self.pairs), self.seed).tolist())
        pairs = [self.pairs[i] for i in rows]
        both = [p.chosen for p in pairs] + [p.rejected for p in pairs]
        with torch.no_grad():
            reference, lengths = mean_logprobs(self.reference, both, self.pad_id)
            reference_chosen_B, reference_rejected_B = self._scaled(reference, lengths).chunk(2)
        policy, lengths = mean_logprobs(self.model, both, self.pad_id)
        chosen_B, rejected_B = self._scaled(policy, lengths).chunk(2)
        loss_B = dpo_loss(chosen_B, rejected_B, reference_chosen_B, reference_rejected_B, s.beta)
        # DPO only raises the margin, and may do so while both answers become less likely; this term holds the chosen one up.
        loss_B = loss_B - s.nll * policy.chunk(2)[0]
        total = loss_B.sum()
        backpropagate(total)
        with torch.no_grad():
            margin_B = (chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B)
            right = float((chosen_B > rejected_B).sum())
        n = float(len(pairs))
        return Sums(
            float(total.detach()),
            n,
            int(lengths.sum()),
            {"margin": (float(margin_B.sum()), n), "preference_accuracy": (right, n)},
        )

    def _scaled(self, means_B: Tensor, lengths_B: Tensor) -> Tensor:
        return means_B if self.settings.normalised else means_B * lengths_B
