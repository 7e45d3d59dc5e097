"""Several reward models as one (Granite 3.0 section 5.3.3, where all weigh the same). Shapes: M reward models, P prompts, S
answers to each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def z_means(scores_MPS: np.ndarray, weights_M: np.ndarray, domains: Sequence[str]) -> np.ndarray:
    """The mean over the models of their normalised scores, (P, S), higher is better. Each model's scores are normalised by
    their own mean and standard deviation over the answers of a prompt's domain; where all are equal they are 0. NaN for an
    answer that takes no part."""
    found = np.full(scores_MPS.shape, np.nan)
    of = np.array(domains)
    for domain in dict.fromkeys(domains):
        here = of == domain
        for m, scores_PS in enumerate(scores_MPS):
            own = scores_PS[here].astype(np.float64)
            known = own[~np.isnan(own)]
            spread = float(known.std()) if known.size else 0.0
            flat = spread <= 1e-12 * max(1.0, float(np.abs(known).max(initial=0.0)))  # rounding is no difference
            found[m, here] = np.where(np.isnan(own), np.nan, 0.0) if flat else (own - known.mean()) / spread
    return np.average(found, axis=0, weights=weights_M)


def rank_means(scores_MPS: np.ndarray, weights_M: np.ndarray) -> np.ndarray:
    """The geometric mean over the models of an answer's rank among those to its prompt, (P, S), lower is better: the best has
    rank 1, equal ones share the mean of their ranks. NaN for an answer that takes no part."""
    ranks_MPS = np.full(scores_MPS.shape, np.nan)
    for m, scores_PS in enumerate(scores_MPS):
        for p, row in enumerate(scores_PS):
            known = np.flatnonzero(~np.isnan(row))
            values = row[known]
            above = (values[:, None] < values[None, :]).sum(axis=1)
            equal = (values[:, None] == values[None, :]).sum(axis=1)
            ranks_MPS[m, p, known] = above + (equal + 1) / 2
    means_PS: np.ndarray = np.exp(np.average(np.log(ranks_MPS), axis=0, weights=weights_M))
    return means_PS


def joined(scores_MPS: np.ndarray, weights_M: np.ndarray, domains: Sequence[str], how: str) -> np.ndarray:
    """The ensemble's scores, (P, S), higher is better: `arithmetic` mean of normalised scores, or `geometric` mean of ranks,
    negated."""
    return z_means(scores_MPS, weights_M, domains) if how == "arithmetic" else -rank_means(scores_MPS, weights_M)
