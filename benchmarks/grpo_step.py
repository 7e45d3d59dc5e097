"""One GRPO step, ours and that of trl's GRPOTrainer, on the same weights and prompts: answers are sampled and rewarded, both
models score them, and the policy is updated. A part of benchmarks.roll_outs.

Both sides sample answers of the same dictated lengths, and on the same samples their loss and gradient must be equal before
anything is timed. Shapes: B samples, T columns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, left_out
from benchmarks.generate import ends
from lehr.config.optim import Optim
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.answers import logprobs
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.prompts import reference_of
from lehr.post.rendered import Rendered
from lehr.post.rollout import RollOut
from lehr.post.sft import pad
from lehr.train.state import TrainState

PROMPTS, SAMPLES = 8, 8
ROWS = PROMPTS * SAMPLES
END = 0  # the token that ends an answer, and pads
KL, LOW, HIGH = 0.04, 0.2, 0.28
OPTIM = Optim(lr=1e-6, betas=[0.9, 0.999], weight_decay=0.0, clip_norm=1.0)  # trl's and transformers' own
TURNS = 3


class Vocabulary:
    """What sampling asks of a tokenizer, for a model without one."""

    eos_id, pad_id, chat_template, special_names = END, END, "", ()


def reward(ids: Sequence[int]) -> float:
    """Any that differs within a group."""
    return sum(i % 2 for i in ids) / len(ids)


class Dictated:
    """A model as a sampler whose answers have dictated lengths."""

    def __init__(self, policy: LanguageModel, wanted: Sequence[int]) -> None:
        self.policy, self.wanted = policy, wanted

    def follow(self, step: int) -> None: ...

    def generate(self, prompts: Any, new: int, stops: Sequence[int] = (), temperature: float = 0.0, seed: int = 0) -> Any:
        return self.policy.generate(prompts, new, stops, temperature, seed, limits=self.wanted)


class Ours:
    """The objective and the engine of `lehr run`, without its log and saves."""

    def __init__(self, model: Transformer, prompts: Sequence[list[int]], wanted: Sequence[int]) -> None:
        vocabulary: Any = Vocabulary()
        policy = LanguageModel(model, vocabulary)
        self.state = TrainState.fresh(model, OPTIM)
        self.state.frozen["reference"] = reference_of(model)
        settings = GrpoSettings(PROMPTS, SAMPLES, 1.0, max(wanted), LOW, HIGH, KL)
        asked = [Prompt(ids, lambda answer, finished: reward(answer)) for ids in prompts]
        self.objective = GrpoObjective(self.state, policy, asked, settings, 0, Dictated(policy, wanted))
        self.tokens: list[float] = []  # of the answers of each step

    def step(self) -> None:
        engine = self.state.optimizer
        engine.zero()
        sums = self.objective.backward(self.state.step, Ranks())
        engine.sum_(torch.zeros(1, dtype=torch.float64), Ranks())
        engine.clip(sums.weight, OPTIM.clip_norm)
        engine.update(OPTIM.lr)
        self.state.step += 1
        self.tokens.append(sums.weight)

    def loss_of(self, rows: list[Rendered], advantages_B: torch.Tensor) -> tuple[float, float]:
        """Loss and gradient norm of given samples; no update."""
        engine = self.state.whole
        engine.zero()
        tokens_BT, labels_BT = pad(rows, END)
        reference_BT = logprobs(self.objective.reference, tokens_BT, labels_BT, 1.0)
        nothing_B = torch.zeros(len(rows))
        sums = self.objective.learn(RollOut(0, tokens_BT, labels_BT, nothing_B, nothing_B, advantages_B, reference_BT))
        engine.collect()
        return float(sums.loss) / sums.weight, float(engine.flat.grads.double().norm()) / sums.weight


class Theirs:
    """trl's GRPOTrainer: its `training_step` samples, rewards, scores and backpropagates."""

    def __init__(self, model: Transformer, prompts: Sequence[list[int]], wanted: Sequence[int], folder: Path) -> None:
        from datasets import Dataset
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
        from trl import GRPOConfig, GRPOTrainer

        models.hugging_face(model).save_pretrained(folder / "model")  # the trainer loads its reference from here
        policy = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        end = "<end>"
        ids = {str(i): i for i in range(model.config.vocab_size) if i != END} | {end: END}
        words = Tokenizer(WordLevel(ids, unk_token=end))
        words.pre_tokenizer = WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=end, pad_token=end)
        settings = GRPOConfig(
            output_dir=str(folder / "out"), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
            per_device_train_batch_size=ROWS, num_generations=SAMPLES, max_completion_length=max(wanted), temperature=1.0,
            beta=KL, epsilon=LOW, epsilon_high=HIGH, loss_type="bnpo", learning_rate=OPTIM.lr, shuffle_dataset=False,
            max_steps=1, save_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip

        class Trainer(GRPOTrainer):  # type: ignore[misc]
            def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
                self.seen = inputs
                return super().compute_loss(model, inputs, *rest, **more)

        data = Dataset.from_list([{"prompt": " ".join(map(str, ids))} for ids in prompts])
        self.trainer = Trainer(policy, self.rewards, settings, data, processing_class=tokenizer)
        self.trainer.current_gradient_accumulation_steps = 1  # as Trainer.train sets it
        self.trainer.create_optimizer()
        self.batch = next(iter(self.trainer.get_train_dataloader()))
        # A row that has ended is padded with the end token, and trl counts the first one as the answer's last.
        columns = [len(prompts[0]) + n - (n < max(wanted)) for n in wanted]
        policy.generate = partial(policy.generate, stopping_criteria=ends(columns))
        self.policy = policy
        self.tokens: list[float] = []

    @staticmethod
    def rewards(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [reward(ids) for ids in completion_ids]

    def backward(self) -> float:
        """Sampling included; returns the loss."""
        loss = self.trainer.training_step(self.trainer.model, self.batch, None)
        self.tokens.append(float(self.trainer.seen["completion_mask"].sum()))
        return float(loss)

    def step(self) -> None:
        self.backward()
        self.trainer.accelerator.clip_grad_norm_(self.policy.parameters(), OPTIM.clip_norm)
        self.trainer.optimizer.step()
        self.policy.zero_grad()

    def loss(self) -> tuple[float, float]:
        """Loss and gradient norm of a step without an update; `rows` says of which samples."""
        loss = self.backward()
        norm = float(torch.stack([p.grad.double().norm() for p in self.policy.parameters()]).norm())
        self.policy.zero_grad()
        return loss, norm

    def rows(self) -> tuple[list[Rendered], torch.Tensor]:
        """The last samples and their advantages."""
        seen = self.trainer.seen
        rows = []
        for prompt, answer, mask in zip(seen["prompt_ids"], seen["completion_ids"], seen["completion_mask"], strict=True):
            kept = answer[mask.bool()].tolist()
            rows.append(Rendered([*prompt.tolist(), *kept], [False] * len(prompt) + [True] * len(kept)))
        return rows, seen["advantages"]


def records(width: int, longest: int, wanted: Sequence[int]) -> list[Record]:
    """Steps per processor second; without trl, none."""
    model = models.ours("4M", width + longest)
    prompts = torch.randint(1, model.config.vocab_size, (PROMPTS, width), generator=torch.Generator().manual_seed(3)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        try:
            theirs = Theirs(model, prompts, wanted, Path(folder))
        except Exception as error:  # noqa: BLE001 (a broken package of others may raise anything; the rest is still measured)
            left_out("trl", error)
            return []
        ours = Ours(model, prompts, wanted)
        apart = _apart(ours, theirs)
        seconds = in_turns({LEHR: ours.step, "trl": theirs.step}, TURNS, warm=1, clock=time.process_time)
    mine, other = sum(ours.tokens[-TURNS:]), sum(theirs.tokens[-TURNS:])
    if "trl" not in seconds:
        return []
    if abs(mine / other - 1) > 0.02:  # an end may be drawn by chance, on either side
        raise SystemExit(f"{mine:.0f} tokens were answered by Lehr, {other:.0f} by trl")
    case = f"a GRPO step, {PROMPTS} prompts of {width} tokens, {SAMPLES} answers each of {min(wanted)} to {max(wanted)}"
    note = f"{sum(wanted):,} answer tokens; loss and gradient norm of the same samples differ by {apart:.0e}"
    return [compared("roll_outs", case, 1 / seconds[LEHR], 1 / seconds["trl"], "trl's GRPOTrainer", "steps/s", note=note)]


def _apart(ours: Ours, theirs: Theirs) -> float:
    """How far loss and gradient norm of the same samples are from each other, relatively. Ends the run if it is far."""
    found = theirs.loss()
    mine = ours.loss_of(*theirs.rows())
    apart = max(abs(a - b) / max(abs(b), 1e-3) for a, b in zip(mine, found, strict=True))
    if apart > 1e-5:
        raise SystemExit(f"loss and gradient norm differ: {mine} by Lehr, {found} by trl")
    return apart
