"""Another engine in the model's place: whoever is asked for answers gives them, and the model learns from those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lehr.artifacts.folder_store import LocalStore
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.runtime.ports import NullTracker, Sampler, itself
from lehr.train.checkpointing.checkpoint import copy_parameters
from lehr.train.fit import RankContext
from lehr.train.state import TrainState

TOKENIZER = Tokenizer.train(["the quick brown fox " * 30], 300)
PROMPTS = [[9, 10], [11, 12, 13, 14], [15]]


class Elsewhere:
    """An engine of its own: a copy of the weights, taken over when it is told, and no cache."""

    def __init__(self, served: LanguageModel) -> None:
        self.served, self.copy, self.followed = served, copy_parameters(served.model), list[int]()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [self._answer(list(p), max_new_tokens, set(stop_ids), temperature, generator) for p in prompts]

    def _answer(self, ids: list[int], room: int, stops: set[int], temperature: float, generator: torch.Generator) -> list[int]:
        begin = len(ids)
        while len(ids) < begin + room and not (len(ids) > begin and ids[-1] in stops):
            logits_V = self.copy(torch.tensor([ids]))[0, -1]
            if temperature == 0.0:
                ids.append(int(logits_V.argmax()))
            else:
                ids.append(int(torch.multinomial(torch.softmax(logits_V / temperature, 0), 1, generator=generator)))
        return ids[begin:]

    def follow(self, step: int) -> None:
        self.followed.append(step)
        self.copy = copy_parameters(self.served.model)


def _model() -> LanguageModel:
    config = Model(vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=32, init_std=0.3)
    return LanguageModel(Transformer(config).initialise(1), TOKENIZER, chat=True)


def test_it_answers_as_the_model_does_and_in_its_place() -> None:
    model = _model()
    engine: Sampler = Elsewhere(model)
    stops = list(range(0, 300, 7))
    own = SharedModel(model, Ranks()).generate(PROMPTS, 8, stops, 0.0, 0)
    assert SharedModel(model, Ranks(), engine).generate(PROMPTS, 8, stops, 0.0, 0) == own
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.neg_()
    assert SharedModel(model, Ranks(), engine).generate(PROMPTS, 8, stops, 0.0, 0) == own  # until it is told
    engine.follow(1)
    assert SharedModel(model, Ranks(), engine).generate(PROMPTS, 8, stops, 0.0, 0) == model.generate(PROMPTS, 8, stops) != own


def test_rewards_rise_on_its_answers() -> None:
    """On-policy: it is told of every step's weights before it answers."""
    model = _model()
    engine = Elsewhere(model)
    settings = GrpoSettings(prompts=2, samples=16, temperature=1.0, max_new_tokens=4, clip_low=0.2, clip_high=0.28, kl=0.0)
    prompts = [Prompt([9, 10], lambda ids, finished: float(ids[0] < 150))]
    state = TrainState.fresh(model.model, Optim(lr=0.03))
    state.frozen["reference"] = copy_parameters(model.model)
    objective = GrpoObjective(state, model, prompts, settings, 1, engine)
    rewards = []
    for step in range(20):
        state.optimizer.zero()
        sums = objective.backward(step, Ranks())
        state.optimizer.clip(sums.weight, 1.0)
        state.optimizer.update(0.03)
        reward, count = sums.extra["reward"]
        rewards.append(float(reward) / float(count))
    assert engine.followed == list(range(20))
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_a_stage_asks_whom_its_context_names(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for serve in (itself, Elsewhere):
        context = StageContext(store, NullTracker(), serve=serve)
        attempt = Attempt("t", store.scratch("t"), context, store.begin("t"))
        assert RankContext.of(attempt, Parallel()).serve is serve
