"""Seeded steps of self-knowledge, as stages from their parent's artifact on, killed as in tests/train/killing.py.

python -m tests.post.killing_conditioned FOLDER FIRST LAST      one JSON line a case
"""

from __future__ import annotations

import json
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.config.optim import Guard, Optim
from lehr.config.parallel import Parallel
from lehr.config.schedule import StepSchedule
from lehr.config.self_knowledge import About
from lehr.config.training import Watch
from lehr.distributed.ranks import Ranks
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.run import run_stage
from lehr.pipeline.spec import Inputs
from lehr.post.sft import SftObjective
from lehr.stages import self_knowledge, self_knowledge_rows
from lehr.train.checkpointing.checkpoint import save_checkpoint
from lehr.train.loop import Sums
from tests.post.test_growth import OURS, ROWS, granite, sealed
from tests.train.killing import Kill, compared, die, kill_the_writer

STEPS = 12
KINDS = ("step", "write", "record", "time")
ABOUT = About(name="Quill", makers=["Ada"], license="Apache-2.0", abilities=["add"])


def begun(folder: Path) -> dict[str, Path]:
    """A parent without the negative token, and the rows of the step."""
    found = {role: folder / role for role in ("parent", "tokenizer", "rows")}
    if folder.exists():
        return found
    OURS.save(found["tokenizer"])
    weights = {name: p.detach() for name, p in granite(ROWS).named_parameters()}
    save_checkpoint(found["parent"], granite(ROWS).config, weights, OURS, chat=True)
    inputs = Inputs({"tokenizer": [sealed(found["tokenizer"], "tokenizer")]})
    config = self_knowledge_rows.SelfKnowledgeRowsConfig(
        about=ABOUT, samples=20, amounts={"math": 9}, sources={}, negatives={}, negative_sources={}, negative_weight=0.5,
        max_length=128, seed=1, template="", decontaminate=[], ngram=8, hits=1, evaluation_seed=1,
    )  # fmt: skip
    store = LocalStore(folder / "store")
    ref = run_stage(self_knowledge_rows.SPEC, "rows", config, inputs, StageContext(store))
    Path(ref.uri).rename(found["rows"])
    sealed(found["parent"], "checkpoint")
    return found


def attempt(inputs: Inputs, every: int, root: Path, kill: Kill) -> None:
    """One attempt at the step."""
    torch.set_num_threads(1)
    kill_the_writer(kill, STEPS // every)
    backward, left = SftObjective.backward, int(kill[1] * STEPS)

    def struck(self: SftObjective, step: int, ranks: Ranks) -> Sums:
        nonlocal left
        sums = backward(self, step, ranks)
        left -= kill[0] == "step"
        if left < 0:
            die()
        return sums

    SftObjective.backward = struck  # type: ignore[method-assign]
    config = self_knowledge.SelfKnowledgeConfig(
        optim=Optim(lr=1e-3, guard=Guard(window=16, sigmas=6.0)), schedule=StepSchedule(), steps=STEPS, epochs=1.0,
        batch_size=6, max_length=128, loss="mean", seed=3, template="", checkpoint_steps=every, parallel=Parallel(),
        watch=Watch(),
    )  # fmt: skip
    run_stage(self_knowledge.SPEC, "t", config, inputs, StageContext(LocalStore(root)))


def trial(number: int, folder: Path) -> dict[str, Any]:
    """What `compared` says of the case that its number draws."""
    rng = random.Random(number)
    kills = [(rng.choice(KINDS[:3]), rng.random() / 2), *((rng.choice(KINDS), rng.random()) for _ in range(rng.randint(0, 2)))]
    given = begun(folder.parent / "given")
    inputs = Inputs({role: [Artifact.open(given[role])] for role in ("parent", "rows")})
    return {"case": number, **compared(folder, partial(attempt, inputs, rng.randint(1, 5)), kills)}


def main(folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        print(json.dumps(trial(number, folder / str(number))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
