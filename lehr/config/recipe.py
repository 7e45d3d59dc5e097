"""The whole recipe and what must hold between its parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive
from lehr.config.data import Data, Tokenizer
from lehr.config.hardware import Hardware
from lehr.config.model import Model
from lehr.config.parallel import Parallel
from lehr.config.posttraining import PostStage
from lehr.config.stages import Anneals, Dpo, Evaluation, Pretrain, Ramp, Rlvr, Sft
from lehr.hardware import bf16_units, cpp_compiler

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "off", "on"]
__all__ = ["Compile", "Model", "Parallel", "Precision", "Recipe", "Site", "Watch"]


class Watch(Config):
    """How often training looks at itself, in steps, and which saves it keeps. No result depends on it, and no fingerprint."""

    model_config = ConfigDict(frozen=True)

    norm_steps: Positive = 20  # norms of the embedding and of the gradients by kind of parameter
    metrics_steps: Positive = 1  # what only the log needs: 1 with each step's sums; more: of so many steps at once, beside them
    collect_steps: Positive = 100  # Python's garbage
    keep_saves: Annotated[int, Field(ge=2)] = 2  # of those at a stage's checkpoint_steps; the newest of all stays anyway
    keep_saves_every_steps: NonNegative = 0  # these stay until the stage ends; 0: none


class Site(Config):
    """Constants of the place where it runs, for energy and carbon (OLMo 2 section 6.5)."""

    cpu_watts_per_core: NonNegativeFloat = 7.0
    pue: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    carbon_kg_per_kwh: NonNegativeFloat = 0.35
    water_onsite_liters_per_kwh: NonNegativeFloat = 0.0  # water usage effectiveness of the cooling
    water_offsite_liters_per_kwh: NonNegativeFloat = 0.0  # and of the power generation
    water_liters_per_kwh: NonNegativeFloat = 0.0  # both together, where they are not told apart
    citation: str = "estimate"

    @model_validator(mode="after")
    def _water(self) -> Site:
        both = self.water_onsite_liters_per_kwh + self.water_offsite_liters_per_kwh
        if both and self.water_liters_per_kwh not in (0.0, both):
            raise ValueError(
                f"water_liters_per_kwh={self.water_liters_per_kwh} is not the {both:g} that "
                "water_onsite_liters_per_kwh and water_offsite_liters_per_kwh give; leave it out"
            )
        self.water_liters_per_kwh = both or self.water_liters_per_kwh
        return self


class Recipe(Config):
    """One run, from documents to a scored chat model."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    description: str = ""
    seed: NonNegative = 0
    model: Model
    tokenizer: Tokenizer
    data: Data
    stage1: Pretrain
    ramp: Ramp | None = None
    anneals: Anneals | None = None
    sft: Sft | None = None
    dpo: Dpo | None = None
    rlvr: Rlvr | None = None
    posttraining: list[PostStage] = []
    evaluation: Evaluation
    parallel: Parallel = Parallel()
    watch: Watch = Watch()
    compile: Compile = "auto"  # pretraining's blocks; auto: stages of a quarter of an hour and more, where a compiler is
    precision: Precision = "fp32"  # of pretraining; auto: bf16 where the processor has units for it
    site: Site = Site()
    hardware: Hardware | None = None  # what `lehr plan` reckons with

    @property
    def base_stage(self) -> str:
        """Name of the checkpoint that pretraining ends with: what chat training starts from and is compared with."""
        if self.anneals:
            return "soup" if self.anneals.soup and len(self.anneals.runs) > 1 else self.anneals.names[0]
        return "ramp" if self.ramp else "stage1"

    @property
    def stage_names(self) -> list[str]:
        """The stages of this recipe in the order in which they run."""
        names = ["documents", "tokenizer", "shards", "stage1", "scores-stage1"]
        names += ["ramp", "scores-ramp"] if self.ramp else []
        anneals = self.anneals.names if self.anneals else []
        names += [*anneals, *(f"scores-{name}" for name in anneals)]  # a map ends before the next begins
        names += ["soup", "scores-soup"] if self.base_stage == "soup" else []
        names += ["sft", *(["pairs"] if self.dpo else []), "scores-sft"] if self.sft else []
        names += ["dpo", "scores-dpo"] if self.dpo else []
        return [*names, *(["rlvr", "scores-rlvr"] if self.rlvr else []), "export"]

    @property
    def training_stages(self) -> list[str]:
        """Those of `stage_names` that train."""
        kinds = ("stage1", "ramp", "anneal", "sft", "dpo", "rlvr")
        return [name for name in self.stage_names if name.split("-")[0] in kinds]

    def pinned(self) -> Recipe:
        """This recipe with what depends on the machine decided: `auto` precision, and `auto` compilation without a compiler."""
        decided = {}
        if self.precision == "auto":
            decided["precision"] = "bf16" if bf16_units() else "fp32"
        if self.compile == "auto" and not cpp_compiler():
            decided["compile"] = "off"
        return self.model_copy(update=decided) if decided else self

    @field_validator("compile", mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        """YAML reads a bare `on` and `off` as booleans."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        for name, mix in self.data.mixes.items():
            for source in mix.weights:
                if source not in self.data.sources:
                    known = ", ".join(sorted(self.data.sources))
                    raise ValueError(f"data.mixes.{name}.weights.{source}: there is no source {source!r}; sources are: {known}")
        used = {"stage1.mix": self.stage1.mix}
        if self.ramp:
            used["ramp.mix"] = self.ramp.mix
        if self.anneals:
            used["anneals.mix"] = self.anneals.mix
            used |= {f"anneals.more.{i}.mix": run.mix for i, run in enumerate(self.anneals.more)}
        if self.sft and self.sft.replay_rows:
            used["sft.replay_mix"] = self.sft.replay_mix
        for name in self.hardware.reported.stages if self.hardware and self.hardware.reported else []:
            if name not in self.training_stages:
                known = ", ".join(self.training_stages)
                raise ValueError(f"hardware.reported.stages: there is no stage {name!r}; stages are: {known}")
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
        lengths = {"stage1.sequence_length": self.stage1.sequence_length}
        lengths |= {"sft.max_length": self.sft.max_length} if self.sft else {}
        for key, length in lengths.items():
            if length > self.model.max_seq_len:
                raise ValueError(f"{key}={length} is more than model.max_seq_len={self.model.max_seq_len}; lower it")
        step = self.stage1.batch_size * self.stage1.sequence_length
        budgets = {"ramp.tokens": self.ramp.tokens} if self.ramp else {}
        budgets |= {f"anneals.tokens of seed {run.seed}": run.tokens for run in (self.anneals.runs if self.anneals else [])}
        for key, tokens in budgets.items():
            if tokens < step:
                raise ValueError(f"{key.split()[0]}={tokens} do not pay for one step of {step} tokens; raise it")
        world = self.parallel.processes
        if self.compile == "on" and self.model.n_experts:
            raise ValueError("compile=on with model.n_experts: only dense models are compiled; set compile to auto or off")
        if self.compile == "on" and not self.parallel.compiles:
            where = f"parallel.recompute=full and parallel.tensor={self.parallel.tensor}"
            raise ValueError(f"compile=on with {where}: set recompute to selective, or compile to auto or off")
        self.parallel.check_model(self.model)
        self.parallel.check_batch("stage1.batch_size", self.stage1.batch_size)
        if self.stage1.batch_ramp and not self.parallel.whole:
            self.parallel.check_batch("stage1.batch_ramp.start", self.stage1.batch_ramp.start)
        for key, section in {"sft": self.sft, "dpo": self.dpo, "rlvr": self.rlvr}.items():
            if section is not None and section.batch_size % world:
                raise ValueError(
                    f"{key}.batch_size={section.batch_size} is no multiple of parallel.processes={world}; change one of them"
                )
        if self.sft is None and (self.dpo or self.rlvr):
            raise ValueError("sft: missing, but dpo and rlvr start from it; add it, or take them out")
        if self.sft and self.sft.replay_rows % world:
            raise ValueError(
                f"sft.replay_rows={self.sft.replay_rows} is no multiple of parallel.processes={world}; change one of them"
            )
        return self
