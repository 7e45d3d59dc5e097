"""The spike guard: an update whose loss or gradient norm is far above the recent ones is skipped."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lehr.config.optim import Guard

_WARM = 8  # accepted values before a standard deviation is meaningful


class SpikeGuard:
    """Skip when loss or gradient norm exceeds mean + `sigmas` * std of the last `window` values, or is not finite.

    The rule is OLMo-core's SkipStepAdamW (used for the 32B), with two of its flaws corrected. The window is part of the saved
    state. And values that enter it are winsorised at the threshold: an outlier of any size widens the window only as much as
    one at the threshold would, and so does not let the next one through, while a lasting change of level is learned after a few
    steps. As long as a rollback is possible, refused values do not enter at all.
    State: `history` (2, window) float64, rows loss and gradient norm, a ring buffer; `count` of values ever entered.
    """

    def __init__(self, config: Guard) -> None:
        self.config = config
        self.history = torch.zeros((2, config.window), dtype=torch.float64)
        self.count = 0
        self.limits = (math.inf, math.inf)  # the thresholds of the last step, for whoever shows them

    def thresholds(self) -> tuple[float, float]:
        """A value above its threshold is a spike; infinite until the window holds enough values."""
        if self.count < _WARM:
            return math.inf, math.inf
        seen = self.history[:, : min(self.count, self.config.window)]
        # The clamp: in a window of equal values the deviation is 0, and rounding alone would make the next value a spike.
        limit = seen.mean(dim=1) + self.config.sigmas * seen.std(dim=1).clamp(min=1e-6)
        return float(limit[0]), float(limit[1])

    def admits(self, loss: float, grad_norm: float, learn: bool = True) -> bool:
        """Whether to make this update. Records finite values, refused ones only with `learn`; call it exactly once for each
        step."""
        # Refused even by a disabled guard, and never recorded: one NaN would make every threshold NaN, and refuse what follows.
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return False
        self.limits = loss_limit, norm_limit = self.thresholds()
        fits = loss <= loss_limit and grad_norm <= norm_limit
        # Where a rollback is possible: else a run that diverges would be taken for the new normal (docs/robustness.md).
        if not (fits or learn):
            return not self.config.enabled
        self.history[:, self.count % self.config.window] = torch.tensor(
            [min(loss, loss_limit), min(grad_norm, norm_limit)], dtype=torch.float64
        )
        self.count += 1
        return not self.config.enabled or fits

    def state(self) -> dict[str, Tensor]:
        return {"guard.history": self.history, "guard.count": torch.tensor(self.count)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.history.copy_(state["guard.history"])
        self.count = int(state["guard.count"])
