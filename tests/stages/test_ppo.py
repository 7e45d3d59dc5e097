"""PPO as a step of a recipe: on a user's prompts, with reward models and adapters; and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.data.tokenizer import Tokenizer
from lehr.model.scalar import ScalarModel
from lehr.pipeline.graph import graph
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.checkpointing.scalar import load_scalar, save_scalar
from tests.model.test_exchange_given import their_folder
from tests.pipeline.test_begin import SFT, recipe

PPO: dict[str, Any] = {
    "kind": "ppo", "examples": {"mine": "all", "math": 4}, "optim": {"lr": 1e-3}, "batch_size": 4, "episodes": 16,
    "samples_per_prompt": 2, "ppo_epochs": 2, "mini_batches": 2, "max_new_tokens": 6, "no_eos_reward": -1.0, "kl_target": 1.0,
}  # fmt: skip
ROWS = [{"prompt": f"2 + {i}?", "verifier": "last_integer", "arguments": {"answer": 2 + i}} for i in range(10)]


def written(folder: Path, *steps: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Path:
    """A recipe of a model of somebody else's, taught to chat, and `steps` after it, with ten prompts of one's own."""
    if not (folder / "theirs").exists():
        their_folder("olmo2", folder / "theirs")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS))
    pairs = [{"prompt": f"{i} + 1?", "chosen": f"{i + 1}", "rejected": f"{i}"} for i in range(30)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    prefs = {"kind": "preferences", "path": "pairs.jsonl", "held_out_share": 0.3}
    chat = {"sources": {"mine": {"kind": "prompts", "path": "prompts.jsonl"}, "prefs": prefs}}
    tasks = [{"task": "chat_math", "limit": 2, "stages": "chat"}]
    evaluation = {"tasks": tasks, "max_new_tokens": 4, "in_loop_steps": 0}
    return recipe(folder, base={"huggingface": "theirs"}, chat=chat, posttraining=[SFT, *steps], evaluation=evaluation)


def run(path: Path, out: Path) -> int:
    return main(["run", str(path), "--out", str(out), "--no-mlflow"])


def made(out: Path, stage: str) -> Artifact:
    """The stage's newest artifact."""
    found = [p for p in (out / "artifacts").glob(f"{stage}-*") if p.name.count("-") == stage.count("-") + 1]
    return Artifact.open(max(found, key=lambda folder: folder.stat().st_mtime_ns))


def reward_model(folder: Path, chat: Artifact, tokenizer: Path | None = None, seed: int = 3) -> str:
    """A reward model of random head on the model in `chat`: its address."""
    loaded = load_checkpoint(chat)
    weights = {name: p.detach() for name, p in ScalarModel.on(loaded.model, seed).named_parameters()}
    save_scalar(folder, loaded.architecture, weights, tokenizer or chat.folder)
    cost = Cost(seconds=0.0, attempts=1)
    Artifact.seal(folder, kind="checkpoint", stage="rm", fingerprint="f", parents=[], config={}, code="", meta={}, cost=cost)
    return str(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of SFT, which later recipes find again."""
    folder = tmp_path_factory.mktemp("ppo")
    assert run(written(folder), folder / "run") == 0
    return folder


def test_ppo_on_ones_own_prompts_with_reward_models_and_adapters(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = taught / "run"
    sft = made(out, "sft")
    judge, begin = reward_model(taught / "rm", sft), reward_model(taught / "value", sft, seed=4)
    step = {**PPO, "reward_models": {judge: 0.5}, "value": begin, "lora": {"rank": 2, "targets": ["qkv", "down"]}}
    again = {**PPO, "name": "ppo-2", "examples": {"mine": 12}, "kl_estimator": "k3"}
    unverified = [*ROWS[:-1], {"prompt": "Say something."}]  # for the reward model alone
    path = written(taught, step, {**again, "reward_models": {judge: 0.5}}, rows=unverified)
    assert [n.name for n in graph(load_recipe(path)) if n.kind in ("ppo", "prompts")] == [
        "ppo-rows",
        "ppo-2-rows",
        "ppo",
        "ppo-2",
    ]
    assert main(["plan", str(path)]) == 0
    assert run(path, out) == 0
    tuned = made(out, "ppo")
    assert {parent.uri for parent in tuned.manifest.parents} >= {judge, begin}
    before, after = load_checkpoint(sft).model, load_checkpoint(tuned).model
    moved = {name for name, p in after.named_parameters() if not torch.equal(p, dict(before.named_parameters())[name])}
    assert {name.split(".", 2)[2] for name in moved} == {"attention.qkv.weight", "mlp.down.weight"}
    curves = [json.loads(line) for line in tuned.path("logs/curves.jsonl").read_text().splitlines()]
    assert len(curves) == 16 / 8 * 4 and curves[0]["kl_coefficient"] == pytest.approx(0.05)
    assert curves[-1]["kl_coefficient"] != curves[0]["kl_coefficient"] and all(row["value_loss"] > 0 for row in curves)
    assert made(out, "ppo-2").manifest.parents[0].stage == "ppo"
    capsys.readouterr()
    assert main(["data", "show", str(out), "--step", "ppo-2", "--rows", "1"]) == 0
    shown = capsys.readouterr()
    assert 'user: 2 + 0?\nverifier: last_integer {"answer": 2}' in shown.out and "12 rows" in shown.err
    assert "ppo-2-rows" in (out / "report.html").read_text()


JUDGE: dict[str, Any] = {
    "kind": "reward_model", "examples": {"prefs": "all"}, "optim": {"lr": 1e-3}, "steps": 2, "batch_size": 2,
    "lora": {"rank": 2, "targets": ["out"]},
}  # fmt: skip


def test_a_chain_of_runs_begins_its_values_anew_from_the_recipes_own_reward_model(taught: Path) -> None:
    """As OLMo 2's 13B: runs of PPO one after the other, each value model from the same reward model, on verifiers alone."""
    first = {**PPO, "value": "reward-model", "reward_models": {"reward-model": 0.0}}
    path = written(taught, JUDGE, first, {**first, "name": "ppo-2", "kl": 0.1})
    nodes = {node.name: node for node in graph(load_recipe(path))}
    assert nodes["ppo"].inputs == {"parent": ("sft",), "prompts": ("ppo-rows",), "value": ("reward-model",)}
    assert nodes["ppo-2"].inputs == {"parent": ("ppo",), "prompts": ("ppo-2-rows",), "value": ("reward-model",)}
    assert run(path, taught / "run") == 0
    assert [p.stage for p in made(taught / "run", "ppo-2").manifest.parents] == ["ppo", "ppo-2-rows", "reward-model"]
    parent = dict(load_checkpoint(made(taught / "run", "sft")).model.named_parameters())
    judge = dict(load_scalar(made(taught / "run", "reward-model")).model.named_parameters())
    moved = {name for name, p in judge.items() if name == "score.weight" or not torch.equal(p, parent[name])}
    assert {name.split(".", 2)[-1] for name in moved} == {"attention.out.weight", "weight"}


def refused(path: Path, out: Path, capsys: pytest.CaptureFixture[str], *said: str) -> None:
    capsys.readouterr()
    assert run(path, out) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and all(text in errors[0] for text in said), errors


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"verifier": "nobody"}, ("prompts.jsonl:11", "there is no verifier 'nobody'")),
        ({"arguments": {"answer": "many"}}, ("prompts.jsonl:11", "last_integer", "answer")),
        ({"prompt": ""}, ("prompts.jsonl:11",)),
        ({"prompt": [{"role": "assistant", "content": "4"}]}, ("prompts.jsonl:11",)),
    ],
)
def test_a_wrong_prompt_is_named(row: dict[str, Any], said: tuple[str, ...], taught: Path, capsys: Any) -> None:
    rows = [*ROWS, {**ROWS[0], **row}]
    refused(written(taught, PPO, rows=rows), taught / "run", capsys, *said)


def test_prompts_that_leave_no_room_are_counted_and_refused_if_all_are(taught: Path, capsys: Any) -> None:
    long = [{**row, "prompt": "number " * 400} for row in ROWS]
    only = {**PPO, "examples": {"mine": "all"}}
    refused(
        written(taught, only, rows=long), taught / "run", capsys, "no prompt of 'mine' is left: leaves no room for an answer 10"
    )
    path = written(taught, only, rows=[*ROWS, *long[:3]])
    assert run(path, taught / "run") == 0
    counts = json.loads(made(taught / "run", "ppo-rows").path("sets.json").read_text())["mine"]
    assert (counts["read"], counts["kept"], counts["dropped"]) == (13, 10, {"leaves no room for an answer": 3})


def test_a_reward_model_that_reads_other_tokens_is_refused(taught: Path, capsys: Any, tmp_path: Path) -> None:
    sft = made(taught / "run", "sft")
    Tokenizer.train(["some other text " * 50], 300).save(tmp_path / "other")
    other = reward_model(tmp_path / "rm", sft, tokenizer=tmp_path / "other")
    step = {**PPO, "reward_models": {other: 1.0}}
    refused(written(taught, step), taught / "run", capsys, f"ppo: the reward {other} has another tokenizer")
    step = {**PPO, "value": str(sft.folder)}
    refused(written(taught, step), taught / "run", capsys, "this checkpoint is a language model", str(sft.folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"examples": {}, "families": []}, ("posttraining.ppo: its data must be supplied", "its families or its examples")),
        ({"families": ["math"]}, ("families and examples both give prompts",)),
        ({"examples": {"nobody": 3}}, ("posttraining.ppo.examples", "'nobody'")),
        ({"examples": {"math": "all"}}, ("posttraining.ppo.examples.math", "has no end")),
        ({"bonus": {"nobody": 0.1}}, ("posttraining.ppo.bonus", "there is no verifier 'nobody'")),
        ({"correct_reward": 0.0, "no_eos_reward": None}, ("posttraining.ppo: no answer is rewarded more than another",)),
        ({"reward_models": {"sft": 1.0}}, ("posttraining.ppo.reward_models.sft: 'sft' is no reward model before this step",)),
        ({"value": "nobody"}, ("posttraining.ppo.value: 'nobody' is no reward model",)),
        ({"lora": {"targets": ["embed"]}}, ("posttraining.ppo.lora.targets", "'embed'")),
        ({"lora": {"rank": 0}}, ("posttraining.ppo.lora.rank", "0")),
        ({"mini_batches": 3}, ("posttraining.ppo.mini_batches=3 do not divide batch_size=4",)),
        ({"max_new_tokens": 4096}, ("posttraining.ppo.max_new_tokens=4096 leaves no room",)),
        ({"gamma": 1.5}, ("posttraining.ppo.gamma",)),
    ],
)
def test_a_wrong_step_is_one_line_before_anything_runs(
    change: dict[str, Any], said: tuple[str, ...], taught: Path, capsys: Any, tmp_path: Path
) -> None:
    refused(written(taught, {**PPO, **change}), tmp_path / "run", capsys, *said)
    assert not list((tmp_path / "run").glob("artifacts/*"))
