"""A port beside lehr.runtime.ports.Sampler."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lehr.runtime.ports import Sampler


@runtime_checkable
class ReportingSampler(Sampler, Protocol):
    """A Sampler that says how likely it held its answers."""

    def sampled_logprobs(self) -> list[list[float]] | None:
        """Log-probabilities, in nats at the temperature of sampling, of the ids that `generate` returned last, by the sampler's
        own account; None where it has none."""
        ...
