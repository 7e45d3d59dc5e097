"""What reward models minimise: Bradley-Terry on pairs, and regression on ratings by aspect. Shapes: B pairs, R answers, K
aspects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lehr.distributed.ranks import Ranks
from lehr.model.scalar import ScalarModel
from lehr.post.batches import rows_of_step
from lehr.post.preference import RenderedPair, groups
from lehr.post.rendered import Rendered
from lehr.post.rewards.rows import answer_row, groups_of, numbers_of
from lehr.runtime.metrics import SHARE, Metric, declare
from lehr.train.loop import Sums
from lehr.train.step_times import backpropagate

MARGIN = declare(Metric("reward_margin", "reward, chosen − rejected", "", "higher", ".3f", short="margin"))
RIGHT = declare(Metric("reward_accuracy", "pairs in the right order", SHARE, "higher"))
ERROR = declare(Metric("rating_error", "distance from the rating", "", "lower", ".3f"))


def bradley_terry(chosen_B: Tensor, rejected_B: Tensor, centre: float = 0.0) -> Tensor:
    """-log sigmoid(chosen - rejected) for each pair (OLMo 2 Table 26; Ouyang et al. 2022 equation 1), plus `centre` times the
    square of the rewards' sum, which holds their mean at zero: the loss does not change if all rewards rise alike (Eisenstein
    et al. 2023, arXiv 2312.09244)."""
    return -F.logsigmoid(chosen_B - rejected_B) + centre * (chosen_B + rejected_B).square()


def regression(found_RK: Tensor, ratings_RK: Tensor) -> Tensor:
    """The mean over the aspects of the squared distance from their ratings, (R,): SteerLM's regression (HelpSteer2, Wang et
    al. 2024; Granite 3.0 section 5.3.3)."""
    return (found_RK - ratings_RK).square().mean(dim=1)


@dataclass(frozen=True)
class Rewarding:
    """`batch_size` counts pairs, or rated answers; `centre`: see bradley_terry."""

    batch_size: int
    seed: int
    centre: float = 0.0


class BradleyTerry:
    """The sum of pair losses; `weight` counts pairs."""

    extras: tuple[str, ...] = (MARGIN.name, RIGHT.name)

    def __init__(self, model: ScalarModel, pairs: Sequence[RenderedPair], settings: Rewarding) -> None:
        self.model, self.pairs, self.settings = model, pairs, settings

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s = self.settings
        rows = ranks.split(rows_of_step(step, s.batch_size, len(self.pairs), s.seed).tolist())
        total, tokens, margin, right = 0.0, 0, 0.0, 0.0
        for numbers in groups(self.pairs, rows):
            both = [self.pairs[i].chosen for i in numbers] + [self.pairs[i].rejected for i in numbers]
            row = answer_row(both, self.model.cos.device)
            chosen_B, rejected_B = numbers_of(self.model, row)[:, 0].view(2, -1)
            loss = bradley_terry(chosen_B, rejected_B, s.centre).sum()
            backpropagate(loss)
            with torch.no_grad():
                margin += float((chosen_B - rejected_B).sum())
                right += float((chosen_B > rejected_B).sum())
            total, tokens = total + float(loss.detach()), tokens + row.tokens_1N.numel()
        n = float(len(rows))
        return Sums(total, n, tokens, {MARGIN.name: (margin, n), RIGHT.name: (right, n)})


class Aspects:
    """The sum of the answers' squared distances from their ratings; `weight` counts answers."""

    extras: tuple[str, ...] = (ERROR.name,)

    def __init__(self, model: ScalarModel, answers: Sequence[Rendered], ratings_RK: Tensor, settings: Rewarding) -> None:
        self.model, self.answers, self.ratings_RK, self.settings = model, answers, ratings_RK, settings

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s = self.settings
        rows = ranks.split(rows_of_step(step, s.batch_size, len(self.answers), s.seed).tolist())
        total, tokens, away = 0.0, 0, 0.0
        for group in groups_of([len(self.answers[i].ids) for i in rows]):
            numbers = [rows[i] for i in group]
            row = answer_row([self.answers[i] for i in numbers], self.model.cos.device)
            ratings_RK = self.ratings_RK[numbers].to(self.model.cos.device)
            found_RK = numbers_of(self.model, row)
            loss = regression(found_RK, ratings_RK).sum()
            backpropagate(loss)
            away += float((found_RK.detach() - ratings_RK).abs().mean(dim=1).sum())
            total, tokens = total + float(loss.detach()), tokens + row.tokens_1N.numel()
        n = float(len(rows))
        return Sums(total, n, tokens, {ERROR.name: (away, n)})
