"""DPO (Rafailov et al. 2023) on preference pairs, length-normalised by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.post.batches import rows_of_step
from lehr.post.packing import ROW_TOKENS, PackedRow, first_fit_decreasing, one_row
from lehr.post.rendered import Rendered
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, token_logprobs
from lehr.train.step_times import backpropagate


@dataclass(frozen=True)
class RenderedPair:
    """Two answers to one prompt, each preceded by the prompt, with the loss mask on the answer."""

    chosen: Rendered
    rejected: Rendered


def answer_logprobs(model: Transformer, row: PackedRow) -> tuple[Tensor, Tensor]:
    """For each conversation of a row: the sum of the trained tokens' log-probabilities in nats, and their number, (R,) each."""
    picked_1N = token_logprobs(model, row.tokens_1N, row.labels_1N, documents=row.documents)
    return row.sums(picked_1N), row.sums((row.labels_1N != IGNORE).float())


@torch.no_grad()
def reference_logprobs(model: Transformer, pairs: Sequence[RenderedPair], ranks: Ranks) -> Tensor:
    """The reference model's log-probabilities of both answers of every pair, shape (pairs, 2), on every rank; each computes its
    share."""
    found = torch.zeros(len(pairs), 2)
    for numbers in groups(pairs, ranks.split(list(range(len(pairs))))):
        row = one_row(_both([pairs[i] for i in numbers]), model.cos.device)
        found[numbers] = answer_logprobs(model, row)[0].cpu().view(2, -1).T
    return torch.stack(ranks.gather(found)).sum(dim=0)


def groups(pairs: Sequence[RenderedPair], numbers: Sequence[int]) -> list[list[int]]:
    """`numbers` of pairs in groups that are computed at once."""
    lengths = [len(pairs[i].chosen.ids) + len(pairs[i].rejected.ids) for i in numbers]
    return [[numbers[i] for i in sorted(group)] for group in first_fit_decreasing(lengths, ROW_TOKENS)]


def _both(pairs: Sequence[RenderedPair]) -> list[Rendered]:
    """The chosen answers, then the rejected ones."""
    return [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]


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
    """Sum of pair losses plus `nll` times the chosen answers' mean negative log-likelihood; `weight` counts pairs.

    `margin_over_reference` is the mean over pairs of (policy - reference) log-probability of the chosen answer less that of
    the rejected one, and `preference_accuracy` the share whose chosen answer the policy finds likelier. Both are per token,
    whatever the loss is made of, as the scores `logprob_margin` (which knows no reference) and `accuracy` are."""

    extras: tuple[str, ...] = ("margin_over_reference", "preference_accuracy")

    def __init__(
        self, model: Transformer, pairs: Sequence[RenderedPair], reference_N2: Tensor, settings: DpoSettings, seed: int
    ) -> None:
        """`reference_N2`: see reference_logprobs."""
        self.model, self.reference_N2, self.pairs = model, reference_N2, pairs
        self.settings, self.seed = settings, seed

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s = self.settings
        rows = ranks.split(rows_of_step(step, s.batch_size, len(self.pairs), self.seed).tolist())
        total, tokens, margin, right = 0.0, 0, 0.0, 0.0
        for numbers in groups(self.pairs, rows):
            row = one_row(_both([self.pairs[i] for i in numbers]), self.model.cos.device)
            sums_2B, lengths_2B = (x.view(2, -1) for x in answer_logprobs(self.model, row))
            reference_2B = self.reference_N2[numbers].T.to(sums_2B.device)
            weights_2B = 1 / lengths_2B if s.normalised else torch.ones_like(lengths_2B)
            (chosen_B, rejected_B), (before_B, against_B) = sums_2B * weights_2B, reference_2B * weights_2B
            loss_B = dpo_loss(chosen_B, rejected_B, before_B, against_B, s.beta)
            # DPO only raises the margin, and may do so while both answers become less likely; this holds the chosen one up.
            loss = (loss_B - s.nll * sums_2B[0] / lengths_2B[0]).sum()
            backpropagate(loss)
            with torch.no_grad():
                policy_2B, gained_2B = sums_2B / lengths_2B, (sums_2B - reference_2B) / lengths_2B
                margin += float((gained_2B[0] - gained_2B[1]).sum())
                right += float((policy_2B[0] > policy_2B[1]).sum())
            total, tokens = total + float(loss.detach()), tokens + int(lengths_2B.sum())
        n = float(len(rows))
        return Sums(total, n, tokens, {"margin_over_reference": (margin, n), "preference_accuracy": (right, n)})
