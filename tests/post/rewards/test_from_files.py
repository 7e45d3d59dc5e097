"""Somebody's model with their own preferences, ratings and prompts: reward models, their ensemble, the best of its answers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.post.sets.pool import Pool
from lehr.post.sets.ratings import rating_of
from lehr.post.sets.shapes import BadRow
from lehr.train.checkpointing.scalar import load_scalar
from tests.pipeline.test_begin import recipe, their_folder

OPTIM = {"lr": 3e-3}
REWARD = {"kind": "reward_model", "epochs": 2.0, "batch_size": 8, "optim": OPTIM}
ASPECTS = {"right": 0.75, "short": -0.25}


def rows(path: Path, found: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def rated(number: int) -> dict[str, Any]:
    """Two answers, the right one rated higher in all but one aspect."""
    answers = [
        {"text": "the answer", "rating": {"right": 4, "short": 1, "funny": 2}},
        {"text": "of of of", "rating": {"right": 0, "short": 3.5, "funny": 1}},
    ]
    return {"prompt": f"question {number}", "answers": answers}


def written(tmp_path: Path, **keys: Any) -> Path:
    """Their model, four files, and steps of every kind of reward."""
    their_folder("olmo2", tmp_path / "theirs")
    rows(tmp_path / "chats.jsonl", [{"prompt": f"question {i}", "completion": "the answer"} for i in range(12)])
    pairs = [{"prompt": f"question {i}", "chosen": "the answer", "rejected": "of of of"} for i in range(60)]
    rows(tmp_path / "prefs.jsonl", pairs)
    rows(tmp_path / "rated.jsonl", [rated(i) for i in range(60)])
    told = {"verifier": "exact", "arguments": {"text": "the answer"}}
    rows(tmp_path / "asked.jsonl", [{"prompt": f"question {i}", **told} for i in range(30)])
    sources = {
        "mine": {"kind": "conversations", "path": "chats.jsonl"}, "asked": {"kind": "prompts", "path": "asked.jsonl"},
        "prefs": {"kind": "preferences", "path": "prefs.jsonl", "held_out_share": 0.2},
        "rated": {"kind": "preferences", "path": "rated.jsonl", "held_out_share": 0.2},
    }  # fmt: skip
    steps = keys.pop("posttraining", None) or [
        {"kind": "sft", "examples": {"mine": "all"}, "epochs": 12.0, "batch_size": 4, "optim": {"lr": 1e-2}},
        {**REWARD, "name": "pairwise", "examples": {"prefs": "all"}},
        {**REWARD, "name": "aspects", "loss": "multi-aspect", "aspects": ASPECTS, "examples": {"rated": "all"}},
        {"kind": "reward_model", "name": "gap", "loss": "contrastive", "against": "base", "examples": {"prefs": "all"}},
        {
            "kind": "best_of_n", "name": "best", "examples": {"asked": "all", "mine": "all"}, "epochs": 1.0, "batch_size": 8,
            "reward_models": {"pairwise": 1.0, "aspects": 1.0, "gap": 0.5}, "n": 4, "max_new_tokens": 12, "optim": OPTIM,
        },
    ]  # fmt: skip
    tasks = [{"task": "chat_math", "limit": 2, "stages": "chat"}]
    evaluation = {"tasks": tasks, "max_new_tokens": 8, "in_loop_steps": 0}
    chat = {"sources": sources}
    return recipe(tmp_path, base={"huggingface": "theirs"}, chat=chat, posttraining=steps, evaluation=evaluation, **keys)


def made(out: Path, name: str) -> Artifact:
    return Artifact.open(next((out / "artifacts").glob(f"{name}-[0-9a-f][0-9a-f]*")))


@pytest.mark.long
def test_their_rewards_choose_the_best_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path), tmp_path / "run"
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    said = capsys.readouterr()
    assert "held-out pairs in the right order" in said.out + said.err
    judged = {name: made(out, name).manifest.meta["reward"] for name in ("pairwise", "aspects", "gap")}
    for name, reward in judged.items():
        assert reward["pairs"] >= 5 and list(reward["domains"]) == ["rated" if name == "aspects" else "prefs"]
    assert judged["pairwise"]["accuracy"] == 1.0  # "the answer" against "of of of", as in training
    assert {name: a["weight"] for name, a in judged["aspects"]["aspects"].items()} == ASPECTS
    assert load_scalar(made(out, "aspects")).model.score.weight.shape[0] == 1
    best = made(out, "best-rows")
    told = [json.loads(line) for line in best.path("best.jsonl").read_text().splitlines()]
    assert len(told) == len(Pool(best.folder)) == best.manifest.meta["rows"] > 0
    for row in told:
        known = [value for value in row["judged"] if value is not None]
        assert row["judged"][row["best"]] == max(known) and set(row["scores"]) == set(judged)
        assert row["verified"] == (float(row["answer"] == "the answer") if row["family"] == "asked" else None)
    html = (out / "report.html").read_text()
    assert "Reward models" in html and "multi-aspect" in html and "Best of several answers" in html
    stages = {row["stage"]: row for row in json.loads((out / "lineage.json").read_text())}
    assert {p["stage"] for p in stages["export"]["parents"]} >= {"best"} and "scores-pairwise" not in stages
    # Another run's model, with another tokenizer, cannot be judged by these rewards.
    other = tmp_path / "other"
    other.mkdir()
    address = str(made(out, "pairwise").folder)
    steps = [
        {"kind": "sft", "examples": {"mine": "all"}, "epochs": 1.0, "batch_size": 4, "optim": OPTIM},
        {"kind": "best_of_n", "examples": {"asked": 4}, "reward_models": {address: 1.0}, "n": 2, "max_new_tokens": 4,
         "steps": 1, "batch_size": 2, "optim": OPTIM},
    ]  # fmt: skip
    again = written(other, posttraining=steps)
    shutil.rmtree(other / "theirs")
    their_folder("granite", other / "theirs")
    assert main(["run", str(again), "--out", str(other / "run"), "--no-mlflow"]) == 2
    assert not list((other / "run" / "artifacts").glob("sft-*"))  # said before anything is trained
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "has another tokenizer than the model whose answers it judges" in error and "Traceback" not in error


HELPSTEER = {"prompt": "q", "response": "a", "right": 3, "short": 0}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**HELPSTEER, "short": None}, "response: not rated by short"),
        ({**HELPSTEER, "short": "high"}, "response: not rated by short"),
        ({**HELPSTEER, "short": True}, "response: not rated by short"),
        ({**HELPSTEER, "short": float("nan")}, "response: not rated by short"),
        ({**HELPSTEER, "response": " "}, "response: the answer is empty"),
        ({"prompt": "q", "answers": []}, "answers: none"),
        ({"prompt": "q", "answers": [{"text": "a", "rating": 4}]}, "answers.0: not rated by right"),
        ({"prompt": "q", "answers": [{"text": "a", "rating": {"right": 4}}]}, "answers.0: not rated by short"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "no shape of ratings is known with the keys chosen, prompt, rejected",
        ),
    ],
)
def test_wrong_ratings_are_named(row: dict[str, Any], said: str) -> None:
    assert rating_of(HELPSTEER, list(ASPECTS)).answers == (("a", {"right": 3.0, "short": 0.0}),)
    with pytest.raises(BadRow, match=re.escape(said)):
        rating_of(row, list(ASPECTS))


def test_a_wrong_row_of_ratings_ends_a_run_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path, posttraining=[{**REWARD, "loss": "multi-aspect", "aspects": ASPECTS, "examples": {"rated": "all"}}]
    )
    broken = [rated(0), {**rated(1), "answers": [{"text": "a", "rating": {"right": 1}}]}]
    rows(tmp_path / "rated.jsonl", broken)
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--no-mlflow"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "rated.jsonl:2: " in error and "answers.0: not rated by short" in error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("posttraining.best.reward_models={nobody: 1.0}", "there is no reward model 'nobody' before this step"),
        ("posttraining.best.parent=pairwise", "'pairwise' is a reward model, which cannot answer"),
        ("posttraining.best.examples={prefs: all}", "'prefs' is a source of preferences, and best_of_n learns from prompts or"),
        ("posttraining.gap.against=sft", "against='sft' is its parent too"),
        ("posttraining.gap.against=nobody", "against='nobody' is not a model before this step"),
        ("posttraining.pairwise.against=base", "bradley-terry contrasts nothing"),
        ("posttraining.pairwise.aspects={right: 1.0}", "bradley-terry has none"),
        ("posttraining.pairwise.optim=null", "pairwise: its learning rate is not given"),
        ("posttraining.best.batch_size=0", "best: its batch_size is not given"),
    ],
)
def test_a_wrong_recipe_is_one_line(change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--no-mlflow", "--set", change]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list((tmp_path / "run").glob("artifacts/*"))


def test_conversations_have_no_verifiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = {"kind": "best_of_n", "examples": {"mine": "all"}, "epochs": 1.0, "batch_size": 2, "optim": OPTIM}
    path = written(tmp_path, posttraining=[best])
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--no-mlflow"]) == 2
    assert "examples.mine: conversations have no verifiers. Give the step reward_models" in capsys.readouterr().err
