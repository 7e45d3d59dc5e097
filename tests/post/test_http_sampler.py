"""An engine elsewhere over HTTP: it answers from the weights that it was given last, and the difference is seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.config.posttraining import GrpoStep
from lehr.config.sampler import SamplerElsewhere
from lehr.config.training import Watch
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.run import run_stage
from lehr.pipeline.spec import Outcome
from lehr.pipeline.step_context import StepContext
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.http_sampler import HttpSampler
from lehr.runtime.errors import UserError
from lehr.runtime.ports import Sampler
from lehr.runtime.reporting_sampler import ReportingSampler
from lehr.stages.grpo import SPEC, expand
from lehr.train.checkpointing.checkpoint import copy_parameters, save_checkpoint
from lehr.train.losses import IGNORE, token_logprobs
from lehr.train.state import TrainState
from tests.serving.served import TOKENIZER, Server, sampler_of, serving, tiny
from tests.staging import made

PROMPTS = [[9, 10], [11, 12, 13, 14], [15]]
STOPS = list(range(5, TOKENIZER.vocab_size, 9))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    with serving(tiny(1), weights=place) as running:
        yield running


def test_it_answers_as_the_model_does_with_the_weights_that_it_was_given(server: Server, place: Path) -> None:
    policy = tiny(2)
    sampler: Sampler = sampler_of(policy, server.url, place)
    assert isinstance(sampler, ReportingSampler)
    before = sampler.generate(PROMPTS, 12, STOPS)
    assert before == tiny(1).generate(PROMPTS, 12, STOPS) != policy.generate(PROMPTS, 12, STOPS)
    sampler.follow(0)
    assert sampler.generate(PROMPTS, 12, STOPS) == policy.generate(PROMPTS, 12, STOPS)
    with torch.no_grad():
        policy.model.embed.weight.neg_()
    sampler.follow(7)
    assert sampler.generate(PROMPTS, 12, STOPS) == policy.generate(PROMPTS, 12, STOPS)
    assert [path.name for path in place.iterdir()] == ["step-00000007"]  # the ones before are not kept


def test_samples_are_a_function_of_seed_and_prompts(server: Server, place: Path) -> None:
    sampler = sampler_of(tiny(1), server.url, place, concurrency=4)
    prompts = [[9, 10]] * 6 + PROMPTS
    first = sampler.generate(prompts, 10, STOPS, 1.0, 3)
    assert first == sampler.generate(prompts, 10, STOPS, 1.0, 3) != sampler.generate(prompts, 10, STOPS, 1.0, 4)
    assert len({tuple(ids) for ids in first[:6]}) > 2
    assert all(len(ids) == 10 or ids[-1] in STOPS for ids in first)
    assert not any(token in STOPS for ids in first for token in ids[:-1])
    assert sampler.generate([], 10) == [] and len(sampler.generate([[]], 5, STOPS)) == 1
    assert len(sampler.generate([[9] * 200], 5, STOPS)[0]) <= 5  # keeps its end, as the model's own does


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_its_log_probabilities_are_the_trainers_up_to_rounding(server: Server, place: Path, temperature: float) -> None:
    policy = tiny(3)
    settings = GrpoSettings(
        prompts=3, samples=2, temperature=temperature, max_new_tokens=10, clip_low=0.2, clip_high=0.28, kl=0.0
    )
    state = TrainState.fresh(policy.model, Optim(lr=0.01))
    state.frozen["reference"] = copy_parameters(policy.model)
    prompts = [Prompt(ids, lambda ids, finished: float(ids[0] % 2)) for ids in PROMPTS]
    objective = GrpoObjective(state, policy, prompts, settings, 1, sampler_of(policy, server.url, place))
    total, tokens = objective.backward(0, Ranks()).extra["sampler_difference"]
    assert tokens > 6 and 0 <= total / tokens < 1e-5
    objective.sampler.follow = lambda step: None  # type: ignore[method-assign]  # a handover that is forgotten is seen at once
    with torch.no_grad():
        policy.model.embed.weight.mul_(1.5)
    total, tokens = objective.backward(1, Ranks()).extra["sampler_difference"]
    assert total / tokens > 0.01


def test_sampler_and_trainer_differ_by_exactly_nothing_where_the_trainer_samples() -> None:
    """With one update for each roll-out the trainer's own pass is the sampler's account too: each ratio is 1 to the last bit,
    so that the loss is the advantages' sum and nothing else."""
    policy = tiny(3)
    settings = GrpoSettings(3, 4, 0.8, 10, 0.2, 0.28, 0.0)
    state = TrainState.fresh(policy.model, Optim(lr=0.01))
    state.frozen["reference"] = copy_parameters(policy.model)
    prompts = [Prompt(ids, lambda ids, finished: float(sum(ids) % 5)) for ids in PROMPTS]
    objective = GrpoObjective(state, policy, prompts, settings, 1)
    rolled = objective.roll_outs.rows(0, Ranks())
    sums = objective.learn(rolled)
    answer_BT = rolled.labels_BT != IGNORE
    exactly = -(rolled.advantages_B[:, None].expand(answer_BT.shape) * answer_BT).sum()
    assert sums.loss == float(exactly) and float(rolled.advantages_B.abs().sum()) > 1
    assert "sampler_difference" not in objective.extras and rolled.sampled_BT is None


def test_several_updates_start_from_the_trainers_own_pass() -> None:
    """Without gradient, as it is over the whole roll-out: it rounds in other places than the pass with it, and no further."""
    policy = tiny(3)
    state = TrainState.fresh(policy.model, Optim(lr=0.01))
    state.frozen["reference"] = copy_parameters(policy.model)
    prompts = [Prompt(ids, lambda ids, finished: float(ids[0] % 2)) for ids in PROMPTS]
    objective = GrpoObjective(state, policy, prompts, GrpoSettings(3, 4, 0.8, 10, 0.2, 0.28, 0.0, epochs=2), 1)
    rolled = objective.roll_outs.rows(0, Ranks())
    assert rolled.old_BT is not None
    new_BT = token_logprobs(policy.model, rolled.tokens_BT, rolled.labels_BT, 0.8)
    assert float((new_BT.detach() - rolled.old_BT).abs().max()) < 2e-5


@pytest.mark.long
def test_rewards_rise_on_the_answers_of_a_server_in_another_process(tmp_path: Path) -> None:
    """GRPO against `lehr serve`: every roll-out is of the weights that the step before made."""
    policy = tiny(1)
    weights = tmp_path / "weights"
    sampler = sampler_of(policy, "http://127.0.0.1:1", weights)
    sampler._write(tmp_path / "start")
    weights.mkdir()
    command = [
        sys.executable,
        "-m",
        "lehr.cli.main",
        "serve",
        str(tmp_path / "start"),
        "--port",
        "0",
        "--weights",
        str(weights),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            found = re.search(r"(http://127\.0\.0\.1:\d+)/v1", process.stdout.readline())
            assert found
            sampler = sampler_of(policy, found[1], weights)
            settings = GrpoSettings(2, 16, 1.0, 4, 0.2, 0.28, 0.0)
            prompts = [Prompt([9, 10], lambda ids, finished: float(ids[0] < TOKENIZER.vocab_size // 2))]
            state = TrainState.fresh(policy.model, Optim(lr=0.03))
            state.frozen["reference"] = copy_parameters(policy.model)
            objective = GrpoObjective(state, policy, prompts, settings, 1, sampler)
            rewards = []
            for step in range(12):
                state.optimizer.zero()
                sums = objective.backward(step, Ranks())
                state.optimizer.clip(sums.weight, 1.0)
                state.optimizer.update(0.03)
                rewards.append(sums.extra["reward"][0] / 32)
                total, tokens = sums.extra["sampler_difference"]
                assert tokens and total / tokens < 1e-4  # the current weights, not the last step's
            assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2
        finally:
            process.terminate()
        assert process.wait(20) == 143


def test_a_stage_of_a_recipe_asks_the_engine_that_its_step_names(server: Server, place: Path, tmp_path: Path) -> None:
    """From the step as it stands in a recipe to the curves in the artifact."""
    said = {"kind": "grpo", "name": "g", "optim": {"lr": 1e-3}, "steps": 2, "batch_size": 2, "families": ["repeat"]}
    said |= {"samples_per_prompt": 2, "max_new_tokens": 4, "sampler": {"url": server.url, "weights": str(place)}}
    context = StepContext("sft", 1, Parallel(processes=1, threads=1), Watch(), {}, 64, False)
    (node,) = expand(GrpoStep.model_validate(said), context)
    TOKENIZER.save(tmp_path)
    weights = {name: p.detach() for name, p in tiny(2).model.named_parameters()}

    def parent(attempt: Attempt) -> Outcome:
        save_checkpoint(attempt.out, tiny(2).model.config, weights, tmp_path, chat=True)
        return Outcome()

    store = LocalStore(tmp_path / "store")
    inputs = SPEC.inputs({"parent": [Artifact.open(made(store, parent).uri)]})
    made_by = Artifact.open(run_stage(SPEC, "g", node.config, inputs, StageContext(store)).uri)
    rows = [json.loads(line) for line in made_by.path("logs/curves.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [0 <= row["sampler_difference"] < 1e-4 for row in rows if "loss" in row] == [True, True]
    assert made_by.manifest.config["sampler"] == "lehr" and server.url not in json.dumps(made_by.manifest.config)


def _on_a_rank(ranks: Ranks, url: str, folder: Path, missing: Path) -> tuple[list[list[int]], str]:
    policy = tiny(2)
    sampler = HttpSampler(policy, SamplerElsewhere(url=url, weights=str(folder)), ranks)
    sampler.follow(3)
    answers = sampler.generate(PROMPTS, 8, STOPS)
    try:
        HttpSampler(policy, SamplerElsewhere(url=url, weights=str(missing)), ranks).follow(4)
    except UserError as error:
        return answers, str(error)
    return answers, ""


@pytest.mark.long
def test_one_rank_hands_over_and_all_hear_of_its_failure(server: Server, place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    run_ranks(2, 1, _every_rank, (server.url, place, tmp_path / "file", tmp_path))
    seen = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    assert seen[0] == seen[1] and seen[0][0] == tiny(2).generate(PROMPTS, 8, STOPS)
    assert "file is where a folder is needed" in seen[0][1]


def _every_rank(ranks: Ranks, work: tuple[str, Path, Path, Path]) -> None:
    found = _on_a_rank(ranks, *work[:3])
    (work[3] / f"{ranks.rank}.json").write_text(json.dumps(found), encoding="utf-8")
