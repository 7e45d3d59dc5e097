"""AdamW, the guard against loss spikes, and going back after one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, PositiveFloat


class Rollback(Config):
    """After this many bad steps in a row go back to the last good checkpoint and leave out the batches since then, but no more
    than `before` ahead of the first bad one."""

    # Two at least: against one bad batch it is enough that the guard refuses its update.
    after: Annotated[int, Field(ge=2)] = 8  # steps whose loss or gradient was not finite or stood out
    limit: Positive = 3  # times in a stage; then the guard is alone
    before: NonNegative = 100  # PaLM's figure


class Guard(Config):
    """Skip an update whose loss or gradient norm is far above the last `window` ones (OLMo-core's skip-step)."""

    enabled: bool = True
    window: Annotated[int, Field(ge=8)] = 128  # OLMo-core's figure, as is `sigmas`; 8: as many as lehr.optim.guard needs
    sigmas: PositiveFloat = 6.0
    rollback: Rollback | None = None

    @model_serializer(mode="wrap")
    def _said_where_it_is_meant(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `rollback` if there is none, so that recipes and fingerprints from before rollbacks existed stay the same."""
        said: dict[str, Any] = handler(self)
        if self.rollback is None:
            said.pop("rollback", None)
        return said


class Optim(Config):
    """AdamW with decoupled decay. The defaults are those of OLMo 2 (OLMo 2 section 3.4, Tables 1 and 3; betas: its code),
    except for the guard, which is in no report. Under muP matrices learn at lr / m_width."""

    lr: PositiveFloat
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.95], min_length=2, max_length=2)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0  # .inf: no clipping
    z_loss: NonNegativeFloat = 1e-5
    decay_embeddings: bool = False  # true in OLMo 1
    decay_norms: bool = True  # and biases
    clip_warmup_tokens: NonNegative = 0  # until then clip_norm is clip_warmup_factor times as large (OLMo 1's configuration)
    clip_warmup_factor: PositiveFloat = 1.0
    guard: Guard = Guard()
