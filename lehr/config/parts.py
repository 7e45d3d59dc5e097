"""The parts of a recipe, without the conditions between them (lehr.config.checks)."""

from __future__ import annotations

from lehr.config.base import Config, NonNegative
from lehr.config.chat import Chat
from lehr.config.compute import Compute
from lehr.config.data import Data
from lehr.config.evaluation import Evaluation
from lehr.config.hardware import Hardware
from lehr.config.initial import Base
from lehr.config.model import Model
from lehr.config.names import Name
from lehr.config.parallel import Parallel
from lehr.config.posttraining import PostStep
from lehr.config.pretraining import Anneals, Pretrain, Ramp
from lehr.config.site import Site
from lehr.config.tokenizer import Tokenizer
from lehr.config.tracking import Tracking
from lehr.config.training import Compile, Precision, Watch


class RecipeParts(Config):
    """The keys of a recipe."""

    name: Name
    description: str = ""
    seed: NonNegative = 0
    base: Base | None = None  # in place of stage1
    model: Model  # with `base` it is the base's
    tokenizer: Tokenizer | None = None  # None: the base's
    data: Data | None = None
    stage1: Pretrain | None = None
    ramp: Ramp | None = None
    anneals: Anneals | None = None
    chat: Chat = Chat()
    posttraining: list[PostStep] = []
    evaluation: Evaluation
    parallel: Parallel = Parallel()
    watch: Watch = Watch()
    compile: Compile = "auto"  # blocks in pretraining; auto: in stages of 15 minutes or more, if there is a C++ compiler
    precision: Precision = "fp32"  # of pretraining; auto: bf16 if the processor computes it in hardware
    compute: Compute = Compute()  # of pods on a cluster
    tracking: Tracking = Tracking()
    site: Site = Site()
    hardware: Hardware | None = None  # for `lehr plan`

    @property
    def world_sizes(self) -> set[int]:
        """The numbers of processes that its stages on ranks have."""
        own = {self.evaluation.processes, *(step.processes for step in self.posttraining)}
        return {self.parallel.by(processes).processes for processes in own | {0}}

    @property
    def reward_models(self) -> list[str]:
        """Names of the steps that make reward models: no language models."""
        return [step.name for step in self.posttraining if step.kind == "reward_model"]

    @property
    def last_model(self) -> str:
        """Name of the last language model, which is exported."""
        models = [step.name for step in self.posttraining if step.kind != "reward_model"]
        return models[-1] if models else self.base_stage

    @property
    def base_stage(self) -> str:
        """Name of the checkpoint in which pretraining ends: post-training starts from it and is compared with it."""
        if self.anneals:
            return "soup" if self.anneals.soup and len(self.anneals.runs) > 1 else self.anneals.names[0]
        return "ramp" if self.ramp else "base" if self.base else "stage1"

    @property
    def window_tokens(self) -> int:
        """The sequence length of pretraining, which limits the windows of running text in scores. 0: the model's length."""
        if self.stage1:
            return self.stage1.sequence_length
        return self.base.training.sequence_length if self.base and self.base.training else 0
