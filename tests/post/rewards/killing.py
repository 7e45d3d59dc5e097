"""Reward models in training, and best-of-N, killed as in tests/train/killing.py.

python -m tests.post.rewards.killing FOLDER      one JSON line a case
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.config.schedule import StepSchedule
from lehr.config.training import Watch
from lehr.data.synthetic.conversations import in_turn, reference_answer
from lehr.data.tokenizer import Tokenizer
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome
from lehr.post import best_of_n
from lehr.post.pairs import PAIRS
from lehr.post.rewards.data import RATINGS
from lehr.post.rewards.objectives import Aspects, BradleyTerry
from lehr.stages import best_of_n as best_stage
from lehr.stages import reward_model as reward_stage
from lehr.train.checkpointing.checkpoint import save_checkpoint
from tests.staging import made
from tests.train.killing import Kill, die, forked, kill_the_writer

MODEL = Model(vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=160, init_std=0.3)
STEPS, ASPECTS = 12, {"right": 0.7, "short": -0.3}


def prepared(root: Path) -> dict[str, Artifact]:
    """A language model, and rated answers to generated questions with the pairs among them."""
    tokenizer = Tokenizer.train(["the answer is the quick brown fox " * 30], 300)
    examples = list(in_turn(["math", "json"], "train", 40, 5))

    def model(attempt: Attempt) -> Outcome:
        weights = dict(Transformer(MODEL).initialise(1).named_parameters())
        save_checkpoint(attempt.out, MODEL, {k: v.detach() for k, v in weights.items()}, tokenizer, chat=True)
        return Outcome()

    def data(attempt: Attempt) -> Outcome:
        pairs, rated = [], []
        for number, example in enumerate(examples):
            split = "held_out" if number % 4 == 0 else "train"
            own = {"split": split, "family": example.family, "prompt": [m.row() for m in example.prompt]}
            right, wrong = reference_answer(example), "I do not know that, but here is a long answer"
            pairs.append({**own, "chosen": right, "rejected": wrong})
            rated += [
                {**own, "answer": text, "ratings": {"right": float(text == right), "short": len(text) / 20}}
                for text in (right, wrong)
            ]
        for name, rows in ((PAIRS, pairs), (RATINGS, rated)):
            (attempt.out / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Outcome()

    store = LocalStore(root)
    refs = {"parent": made(store, model, "parent"), "pairs": made(store, data, "pairs", output="preferences")}
    return {name: Artifact.open(Path(ref.uri)) for name, ref in refs.items()}


def reward_config(loss: Any = "bradley-terry", steps: int = STEPS) -> reward_stage.RewardModelConfig:
    return reward_stage.RewardModelConfig(
        loss=loss, optim=Optim(lr=3e-3), schedule=StepSchedule(), steps=steps, epochs=1.0, batch_size=6, max_length=0,
        centre=0.01, aspects=ASPECTS if loss == "multi-aspect" else {}, seed=3, checkpoint_steps=3, parallel=Parallel(),
        watch=Watch(),
    )  # fmt: skip


def best_config(**changes: Any) -> best_stage.BestOfNConfig:
    told: dict[str, Any] = {
        "template": "", "samples": 6, "max_length": 160, "decontaminate": [], "ngram": 10, "hits": 1, "evaluation_seed": 1,
        "seed": 4, "families": ["math", "json"], "amounts": {}, "sources": {}, "ensemble": "arithmetic", "n": 8,
        "temperature": 1.0, "max_new_tokens": 24, "parallel": Parallel(),
        "rewards": [{"name": "rm", "checkpoints": 1, "per_token": False, "weight": 1.0}],
    }  # fmt: skip
    return best_stage.BestOfNConfig.model_validate({**told, **changes})


def train(inputs: Mapping[str, Artifact], loss: str, root: Path, kill: Kill) -> None:
    """One attempt at a reward model."""
    torch.set_num_threads(1)
    kill_the_writer(kill, STEPS // 3)
    left = int(kill[1] * STEPS)
    for objective in (BradleyTerry, Aspects):
        inner = objective.backward

        def backward(self: Any, step: int, ranks: Any, inner: Callable[..., Any] = inner) -> Any:
            if kill[0] == "step" and step == left:
                die()
            return inner(self, step, ranks)

        objective.backward = backward  # type: ignore[method-assign]
    given = Inputs({role: [artifact] for role, artifact in inputs.items()})
    made(LocalStore(root), lambda attempt: reward_stage.run(reward_config(loss), given, attempt))


def choose(inputs: Mapping[str, Artifact], root: Path, kill: Kill) -> None:
    """One attempt at best-of-N, in blocks of one prompt."""
    torch.set_num_threads(1)
    best_of_n._BLOCK = 8
    write, score, left = best_of_n.write_atomic, best_of_n._block, int(kill[1] * 6)

    def block(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if kill[0] == "block" and left < 0:
            die()
        return score(*arguments)

    def half(path: Path, text: str) -> None:
        if kill[0] == "write" and left < 0:
            path.with_name(f"{path.name}.tmp").write_text(text[: len(text) // 2])
            die()
        write(path, text)

    best_of_n._block, best_of_n.write_atomic = block, half
    given = Inputs({"policy": [inputs["parent"]], "rewards": [inputs["rm"]]})
    made(LocalStore(root), lambda attempt: best_stage.run(best_config(), given, attempt), output="conversations")


def same(folder: Path, work: Callable[[Path, Kill], None], kills: list[Kill]) -> dict[str, Any]:
    """Whether the same bits come of `work` left alone, and of it killed again and again."""
    forked(partial(work, folder / "whole", ("", 0.0)))
    killed = [forked(partial(work, folder / "cut", kill), kill[1] if kill[0] == "time" else 0.0) for kill in kills]
    forked(partial(work, folder / "cut", ("", 0.0)))
    whole, cut = (Artifact.open(next((folder / name / "artifacts").glob("t-*"))) for name in ("whole", "cut"))
    logs = [(a.path("logs/curves.jsonl")) for a in (whole, cut)]
    steps = [len(path.read_text().splitlines()) if path.is_file() else 0 for path in logs]
    return {"same": whole.manifest.digest == cut.manifest.digest, "kills": sum(killed), "steps": steps}


def main(folder: Path) -> None:
    inputs: dict[str, Artifact] = {}

    def begin() -> None:
        found = prepared(folder / "inputs")
        given = Inputs({role: [artifact] for role, artifact in found.items()})
        made(LocalStore(folder / "inputs"), lambda attempt: reward_stage.run(reward_config(), given, attempt), "rm")

    forked(begin)
    for name in ("parent", "pairs", "rm"):
        inputs[name] = Artifact.open(next((folder / "inputs" / "artifacts").glob(f"{name}-*")))
    own = {name: inputs[name] for name in ("parent", "pairs")}
    kills: list[Kill] = [("step", 0.4), ("write", 0.0), ("record", 0.0), ("step", 0.75), ("time", 0.2)]
    for loss in ("bradley-terry", "multi-aspect"):
        print(json.dumps({"case": loss, **same(folder / loss, partial(train, own, loss), kills)}), flush=True)
    cuts: list[Kill] = [("block", 0.4), ("write", 0.2), ("block", 0.35), ("time", 0.2)]
    print(json.dumps({"case": "best-of-n", **same(folder / "best", partial(choose, inputs), cuts)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
