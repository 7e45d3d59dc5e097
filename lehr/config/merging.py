"""How checkpoints are merged: the method with its settings, and the search of its weights."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, Positive, PositiveFloat

Method = Literal["linear", "slerp", "ties", "dare_linear", "dare_ties"]
OF_DIFFERENCES = ("ties", "dare_linear", "dare_ties")  # methods that merge differences to a common ancestor
_DENSITY, _DROP, _AT = 0.2, 0.9, 0.5  # Yadav et al. 2023: the top 20%; Yu et al. 2023: 90% dropped; half way


class MergeSearch(Config):
    """Weights of a linear merge, searched on a task's dev split; held-out examples are never read."""

    task: str
    metric: str  # one of the task's that has a better way
    points: Positive  # sets of weights that are scored at most: the equal ones, each parent alone, then around the best
    limit: Positive = 200  # dev examples


class MergeMethod(Config):
    """The method and its settings. A setting that is left out has the value of the method's paper."""

    method: Method = "linear"
    weights: list[float] = []  # of the parents, in order; none: equal ones
    normalise: bool = True  # over the sum of the weights; of ties and dare_ties over those that agree on an element's sign
    density: Annotated[float, Field(gt=0, le=1)] | None = None  # of ties: share of each tensor's differences kept; 0.2
    drop: Annotated[float, Field(ge=0, lt=1)] | None = None  # of dare_linear and dare_ties: share dropped at random; 0.9
    scale: PositiveFloat | None = None  # of ties and both dare methods: factor of the merged difference; 1
    at: Fraction | None = None  # of slerp: from the first parent, 0, to the second, 1; 0.5

    @property
    def kept(self) -> float:
        """The density."""
        return _DENSITY if self.density is None else self.density

    @property
    def dropped(self) -> float:
        """The probability with which DARE drops an element."""
        return _DROP if self.drop is None else self.drop

    @property
    def place(self) -> float:
        """How far SLERP goes towards the second parent."""
        return _AT if self.at is None else self.at

    @property
    def factor(self) -> float:
        """The scale."""
        return 1.0 if self.scale is None else self.scale

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> MergeMethod:
        of = {"density": ("ties",), "drop": ("dare_linear", "dare_ties"), "scale": OF_DIFFERENCES, "at": ("slerp",)}
        for key, methods in of.items():
            if getattr(self, key) is not None and self.method not in methods:
                raise ValueError(f"{key}: a setting of {' and '.join(methods)}, and the method is {self.method}; remove it")
        if self.weights:
            self._check_weights()
        return self

    def _check_weights(self) -> None:
        shown = ", ".join(f"{weight:g}" for weight in self.weights)
        if self.method == "slerp":
            raise ValueError(f"weights={shown}: slerp has none; say with at how far it goes towards the second parent")
        if not all(math.isfinite(weight) for weight in self.weights):
            raise ValueError(f"weights={shown}: not all are finite numbers; correct them")
        if self.method != "linear" and min(self.weights) < 0:
            raise ValueError(f"weights={shown}: {self.method} has no negative ones, since it weighs signs; correct them")
        if abs(math.fsum(self.weights)) < 1e-6 * math.fsum(map(abs, self.weights)) or not any(self.weights):
            raise ValueError(f"weights={shown}: they sum to 0, and such a merge is no model; correct them")
