"""The whole recipe and what must hold between its parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.data import Data, Tokenizer
from lehr.config.stages import Anneals, Dpo, Evaluation, Pretrain, Ramp, Rlvr, Sft
from lehr.hardware import bf16_units

Precision = Literal["auto", "fp32", "bf16"]


class Model(Config):
    """Architecture. `olmo2`: RMSNorm on the sub-layers' outputs, QK-norm, SwiGLU, RoPE, no biases (OLMo 2 section 3)."""

    family: Literal["olmo2"] = "olmo2"
    vocab_size: Positive
    n_layers: Positive
    d_model: Positive
    n_heads: Positive
    n_kv_heads: Positive
    mlp_hidden: Positive  # width of the gated MLP
    max_seq_len: Positive
    rope_theta: PositiveFloat = 500_000.0
    norm_eps: PositiveFloat = 1e-6
    tied_embeddings: bool = False
    init_std: PositiveFloat = 0.02

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is no multiple of n_heads={self.n_heads}; change one of them")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads={self.n_heads} is no multiple of n_kv_heads={self.n_kv_heads}; change one of them")
        if self.head_dim % 2:
            raise ValueError(f"head size d_model/n_heads={self.head_dim} is odd, and RoPE turns pairs; make it even")
        return self


class Parallel(Config):
    """Data-parallel processes per stage (gloo on CPU, NCCL on GPUs) and threads in each. Part of a run's identity:
    sums over ranks are taken in rank order, so another world size gives equal batches but other last bits."""

    processes: Positive = 1
    threads: Positive = 1


class Site(Config):
    """Constants of the place where it runs, for energy and carbon (OLMo 2 section 6.5)."""

    cpu_watts_per_core: NonNegativeFloat = 7.0
    pue: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    carbon_kg_per_kwh: NonNegativeFloat = 0.35
    water_liters_per_kwh: NonNegativeFloat = 0.0
    citation: str = "estimate"


class Recipe(Config):
    """One run, from documents to a scored chat model."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    description: str = ""
    seed: NonNegative = 0
    model: Model
    tokenizer: Tokenizer
    data: Data
    stage1: Pretrain
    ramp: Ramp
    anneals: Anneals
    sft: Sft
    dpo: Dpo
    rlvr: Rlvr
    evaluation: Evaluation
    parallel: Parallel = Parallel()
    precision: Precision = "fp32"  # of next-token training and SFT; auto: bf16 where the processor has units for it
    site: Site = Site()

    def pinned(self) -> Recipe:
        """This recipe with what depends on the machine decided: `auto` precision."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bf16" if bf16_units() else "fp32"})

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        for name, mix in self.data.mixes.items():
            for source in mix.weights:
                if source not in self.data.sources:
                    known = ", ".join(sorted(self.data.sources))
                    raise ValueError(f"data.mixes.{name}.weights.{source}: there is no source {source!r}; sources are: {known}")
        used = {"stage1.mix": self.stage1.mix, "ramp.mix": self.ramp.mix, "anneals.mix": self.anneals.mix}
        if self.sft.replay_rows:
            used["sft.replay_mix"] = self.sft.replay_mix
        for key, mix_name in used.items():
            if mix_name not in self.data.mixes:
                known = ", ".join(sorted(self.data.mixes))
                raise ValueError(f"{key}: there is no mix {mix_name!r}; mixes are: {known}")
        return self

    @model_validator(mode="after")
    def _sizes(self) -> Recipe:
        if self.tokenizer.vocab_size > self.model.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size={self.tokenizer.vocab_size} is more than model.vocab_size={self.model.vocab_size}; "
                "the model needs a row for every token"
            )
        for key, length in (("stage1.sequence_length", self.stage1.sequence_length), ("sft.max_length", self.sft.max_length)):
            if length > self.model.max_seq_len:
                raise ValueError(f"{key}={length} is more than model.max_seq_len={self.model.max_seq_len}; lower it")
        step = self.stage1.batch_size * self.stage1.sequence_length
        for key, tokens in (("ramp.tokens", self.ramp.tokens), ("anneals.tokens", self.anneals.tokens)):
            if tokens < step:
                raise ValueError(f"{key}={tokens} do not pay for one step of {step} tokens; raise it")
        world = self.parallel.processes
        batches = (self.stage1.batch_size, self.sft.batch_size, self.dpo.batch_size, self.rlvr.batch_size)
        for key, size in zip(("stage1", "sft", "dpo", "rlvr"), batches, strict=True):
            if size % world:
                raise ValueError(f"{key}.batch_size={size} is no multiple of parallel.processes={world}; change one of them")
        if self.sft.replay_rows % world:
            raise ValueError(
                f"sft.replay_rows={self.sft.replay_rows} is no multiple of parallel.processes={world}; change one of them"
            )
        return self
