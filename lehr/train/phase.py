"""A phase of next-token training as every rank receives it, and the objects that a rank makes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.config.model import Model
from lehr.config.training import Compile, Precision
from lehr.data.tokenizer import Tokenizer
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.train.compilation import compile_blocks, pays, uncompiled
from lehr.train.fit import Evaluator, RankContext
from lehr.train.in_loop import ProseEvaluator
from lehr.train.loop import Plan
from lehr.train.losses import CrossEntropy, cross_entropy
from lehr.train.next_token import NextToken, TrainingPhase, make_loader
from lehr.train.state import TrainState


@dataclass(frozen=True)
class PretrainSpec:
    """What every rank of a phase is given. `parent` is None for training from scratch, which starts from `init_seed`."""

    context: RankContext
    phase: TrainingPhase
    model: Model
    init_seed: int
    evaluation_seed: int
    shards: Path
    documents: Path
    tokenizer: Path
    parent: Path | None
    in_loop_steps: int
    precision: Precision
    compile: Compile = "off"

    @property
    def plan(self) -> Plan:
        s = self.phase
        return Plan(s.steps, s.rate, s.clip_norm, s.checkpoint_steps, self.in_loop_steps)

    def objective(self, state: TrainState, loss: Callable[..., CrossEntropy] = cross_entropy) -> NextToken:
        """Next-token training on the phase's mix."""
        loader = make_loader(self.shards, self.tokenizer, self.phase)
        eos = Tokenizer.load(self.tokenizer).eos_id
        return NextToken(state, loader, self.phase, self.context.parallel.micro_batch, eos, loss)

    def mix(self) -> str:
        """The resolved weights, epochs and token counts of the mix, as a tree."""
        return make_loader(self.shards, self.tokenizer, self.phase).plan.tree()

    def evaluator(self) -> ProseEvaluator | None:
        """The evaluator during training, or None if the recipe has none."""
        if not self.in_loop_steps:
            return None
        return ProseEvaluator(self.documents, self.tokenizer, self.evaluation_seed, self.phase.sequence_length)

    def compile_blocks_if_pays(self, model: Transformer, ranks: int, evaluator: Evaluator | None) -> Evaluator | None:
        """Compile the blocks if that pays (`compilation.py`); returns `evaluator`, made to run the uncompiled blocks."""
        flops = flops_per_token(self.model, self.phase.sequence_length) * self.phase.tokens
        if not self.context.parallel.compiles or not pays(self.compile, model, flops, ranks):
            return evaluator
        compile_blocks(model)
        return uncompiled(evaluator) if evaluator else None

    def training(self, state: TrainState) -> dict[str, Any]:
        """What a child stage needs of this one: the content of `train.json`."""
        return {
            "lr": self.phase.rate(state.step, state.tokens),
            "tokens": state.tokens,
            "steps": state.step,
            "batch_size": self.phase.batch_size,
            "sequence_length": self.phase.sequence_length,
            "document_mask": self.phase.document_mask,
            "mask_repeats": self.phase.mask_repeats,
            "optim": self.phase.optim.model_dump(),
        }
