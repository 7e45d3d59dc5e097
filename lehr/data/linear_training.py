"""Training a linear classifier: logistic regression, solved to its one minimum by L-BFGS, and measured on texts held out.

The loss is convex, so neither the order of documents nor a seed changes the result beyond rounding. Letters: N texts, K n-grams
of all of them, B buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lehr.config.text_models import ClassifierModel
from lehr.data.linear import LinearClassifier
from lehr.runtime.errors import UserError

# An n-gram's share of a text is a few thousandths, so weights would have to be in the hundreds, which the penalty forbids and
# L-BFGS reaches slowly: the mean is multiplied by this while training, and the weights afterwards.
_SCALE = 100.0


@dataclass
class Texts:
    """Labelled texts as n-grams: `ngrams_K` int32 buckets, of text n from `starts_N[n]` on; `labels_N` 1 positive, 0 negative;
    `balance_N` sums to 1, half for each class."""

    ngrams_K: np.ndarray
    starts_N: np.ndarray
    labels_N: np.ndarray

    @staticmethod
    def of(features: Iterable[tuple[np.ndarray, bool]]) -> Texts:
        """From the n-grams of each text, with its label. Texts without words are left out."""
        kept = [(found.astype(np.int32), label) for found, label in features if len(found)]
        lengths = np.array([len(found) for found, _ in kept], np.int64)
        joined = np.concatenate([found for found, _ in kept]) if kept else np.zeros(0, np.int32)
        return Texts(joined, np.cumsum(lengths) - lengths, np.array([label for _, label in kept], np.float64))

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def lengths_N(self) -> np.ndarray:
        return np.diff(self.starts_N, append=len(self.ngrams_K))

    @property
    def balance_N(self) -> np.ndarray:
        positive = self.labels_N.sum()
        share_N: np.ndarray = np.where(self.labels_N == 1, 0.5 / max(positive, 1), 0.5 / max(len(self) - positive, 1))
        return share_N

    def among(self, seen_B: np.ndarray) -> Texts:
        """The same texts with buckets counted among those that `seen_B` has."""
        place_B = np.cumsum(seen_B, dtype=np.int32) - 1
        return Texts(place_B[self.ngrams_K], self.starts_N, self.labels_N)

    def logits(self, weights_B: np.ndarray, bias: float) -> np.ndarray:
        """The mean of each text's weights, plus the bias, float64 (N)."""
        sums_N = np.add.reduceat(weights_B[self.ngrams_K], self.starts_N)
        out_N: np.ndarray = sums_N / self.lengths_N + bias
        return out_N


def loss_and_gradient(parameters: np.ndarray, texts: Texts, l2: float) -> tuple[float, np.ndarray]:
    """sum_n balance_n log(1 + exp(-y_n z_n)) + l2 / (2 N) |w|^2 with y in {-1, 1} and z the logits, and its gradient.

    `parameters` are the B weights, for means multiplied by 100, and the bias, which is not penalised: float64 (B+1)."""
    weights_B = parameters[:-1]
    z_N = texts.logits(weights_B * _SCALE, parameters[-1])
    balance_N, sign_N = texts.balance_N, 2 * texts.labels_N - 1
    penalty = l2 / len(texts)
    loss = float((balance_N * np.logaddexp(0, -sign_N * z_N)).sum() + penalty / 2 * (weights_B @ weights_B))
    slope_N = -balance_N * sign_N * np.exp(-np.logaddexp(0, sign_N * z_N))  # d loss / d z
    each_K = np.repeat(slope_N * _SCALE / texts.lengths_N, texts.lengths_N)
    gradient_B = np.bincount(texts.ngrams_K, weights=each_K, minlength=len(weights_B)) + penalty * weights_B
    return loss, np.append(gradient_B, slope_N.sum())


def fit(texts: Texts, config: ClassifierModel) -> LinearClassifier:
    """The classifier at the minimum of the loss. Raises UserError if a class has no text."""
    for label, name in ((1, "positive"), (0, "negative")):
        if not (texts.labels_N == label).any():
            raise UserError(f"no {name} text to train on", remedy="add documents, or lower held_out")
    seen_B = np.zeros(config.buckets, bool)
    seen_B[texts.ngrams_K] = True
    among, count = texts.among(seen_B), int(seen_B.sum())  # weights of buckets that no text fills begin and stay at zero
    parameters = torch.zeros(count + 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=config.iterations, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        loss, gradient = loss_and_gradient(parameters.numpy(), among, config.l2)
        parameters.grad = torch.from_numpy(gradient)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = parameters.numpy()
    weights_B = np.zeros(config.buckets, np.float32)
    weights_B[seen_B] = found[:-1] * _SCALE
    return LinearClassifier(weights_B, float(found[-1]), config.ngrams, config.normalise == "plain")


def measured(classifier: LinearClassifier, texts: Texts) -> dict[str, float]:
    """How well the classifier separates `texts`: mean accuracy of both classes at 0.5, area under the ROC curve, log loss with
    both classes of one weight."""
    z_N = texts.logits(classifier.weights.astype(np.float64), classifier.bias)
    right_N = (z_N > 0) == (texts.labels_N == 1)
    log_loss = float((texts.balance_N * np.logaddexp(0, (1 - 2 * texts.labels_N) * z_N)).sum())
    return {"accuracy": float((texts.balance_N * right_N).sum()), "auc": auc(z_N, texts.labels_N), "log_loss": log_loss}


def auc(scores_N: np.ndarray, labels_N: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, ties half: Mann and Whitney's U over all pairs."""
    _, place_N, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    ranks_N = (np.cumsum(counts) - (counts - 1) / 2)[place_N]
    positive = float(labels_N.sum())
    pairs = positive * (len(labels_N) - positive)
    return float(ranks_N[labels_N == 1].sum() - positive * (positive + 1) / 2) / pairs if pairs else float("nan")


def kept_at(scores_N: np.ndarray, shares: Sequence[float]) -> dict[str, float]:
    """For each share: the threshold on the score that keeps that share of the texts."""
    return {f"{share:g}": float(np.quantile(scores_N, 1 - share)) for share in shares} if len(scores_N) else {}
