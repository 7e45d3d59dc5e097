"""`lehr lookup` against what training really read: batches kept as they passed, and documents found in them by their tokens."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from lehr.artifacts.artifact import Artifact, Cost, Kind
from lehr.artifacts.folder_store import LocalStore
from lehr.cli.main import lehr
from lehr.config.mix import Mix
from lehr.config.optim import Guard, Optim, Rollback
from lehr.config.parallel import Parallel
from lehr.config.schedule import BatchRamp, ConstantSchedule
from lehr.data.document import Document
from lehr.data.loader import Batch
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Outcome
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Plan, Sums
from lehr.train.next_token import NextToken, TrainingPhase, make_loader
from lehr.train.state import TrainState
from tests.staging import made
from tests.train.corpus import MODEL_320

LENGTH, LEFT_OUT = 16, range(10, 15)
STRETCH = TrainingPhase(
    Mix(weights={"a": 0.7, "b": 0.3}, max_epochs=20.0), 24 * 8 * LENGTH, 8, LENGTH,
    Optim(lr=1e-3, guard=Guard(window=8, rollback=Rollback(after=3, before=2))), ConstantSchedule(kind="constant"), 4, 5,
    BatchRamp(start=2, double_every_tokens=320),
)  # fmt: skip
Texts = dict[str, dict[str, str]]


class Watched(NextToken):
    """Keeps every batch by its step. Gradients of steps 12 to 14 are not numbers: a rollback leaves out 10 to 14."""

    def __init__(self, state: TrainState, shards: Path, seen: dict[int, Batch]) -> None:
        super().__init__(state, make_loader(shards, shards, STRETCH), STRETCH)
        self.seen, self.flat = seen, state.optimizer.flat

    def backward(self, step: int, ranks: Ranks) -> Sums:
        sums = super().backward(step, ranks)
        if 12 <= step <= 14:
            self.flat.grads[0] = float("nan")
        return sums

    def batch(self, step: int, ranks: Ranks) -> tuple[Batch, int]:
        self.seen[step], masked = super().batch(step, ranks)
        return self.seen[step], masked


def _texts() -> Texts:
    rng = np.random.default_rng(3)
    return {
        source: {f"{source}{i}": " ".join(map(str, rng.integers(10, 99, rng.integers(3, 40)))) for i in range(count)}
        for source, count in (("a", 40), ("b", 9))
    }


def _sealed(folder: Path, kind: Kind) -> Artifact:
    return Artifact.seal(
        folder, kind=kind, stage=kind, fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )  # fmt: skip


def _trained(root: Path, texts: Texts) -> tuple[Artifact, dict[int, Batch], Tokenizer]:
    tokenizer = Tokenizer.train([t for documents in texts.values() for t in documents.values()], 320)
    shards, vocabulary = root / "artifacts" / "shards", root / "artifacts" / "tokenizer"
    for folder in (shards, vocabulary):
        folder.mkdir(parents=True)
        tokenizer.save(folder)
    for source, documents in texts.items():
        write_shards((Document(id_, source, t) for id_, t in documents.items()), source, tokenizer, shards)
    parents = [_sealed(shards, "shards"), _sealed(vocabulary, "tokenizer")]
    seen: dict[int, Batch] = {}

    def work(attempt: Attempt) -> Outcome:
        state = TrainState.fresh(Transformer(MODEL_320).initialise(1), STRETCH.optim)
        plan = Plan(STRETCH.steps, STRETCH.rate, STRETCH.clip_norm, STRETCH.checkpoint_steps)
        fit(RankContext.of(attempt, Parallel()), Ranks(), state, Watched(state, parents[0].folder, seen), plan)
        return Outcome(tokens=state.tokens)

    ref = made(LocalStore(root), work, "stage1", values=STRETCH.describe(), parents=parents)
    return Artifact.open(ref.uri), seen, tokenizer


def _documents(texts: Texts, tokenizer: Tokenizer) -> dict[tuple[int, ...], set[tuple[str, str]]]:
    """The documents of every run of tokens that training can have read: its inputs and the label after the last one."""
    found: dict[tuple[int, ...], set[tuple[str, str]]] = defaultdict(set)
    for source, documents in texts.items():
        owners = [(t, id_) for id_, text in documents.items() for t in [*tokenizer.encode(text), tokenizer.eos_id]]
        for at in range(len(owners) - LENGTH):
            part = owners[at : at + LENGTH + 1]
            found[tuple(t for t, _ in part)] |= {(source, id_) for _, id_ in part}
    return found


def _asked(folder: Path, *question: str) -> Any:
    done = CliRunner().invoke(lehr, ["lookup", str(folder), *question, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_both_ways_are_what_training_read(tmp_path: Path) -> None:
    """Two sources of which one is read several times, a growing batch, and a rollback."""
    texts = _texts()
    artifact, seen, tokenizer = _trained(tmp_path, texts)
    known = _documents(texts, tokenizer)
    assert sorted(seen) == list(range(STRETCH.steps))
    steps_of: dict[tuple[str, str], set[int]] = defaultdict(set)
    for step, batch in seen.items():
        read = [
            known[(*row.tolist(), int(label[-1]))] for row, label in zip(batch.tokens_BT, batch.labels_BT, strict=True)
        ]  # fmt: skip
        said = [{(row["source"], d) for d in row["documents"]} for row in _asked(artifact.folder, "--step", str(step))]
        assert said == read, step
        for document in set().union(*read):
            steps_of[document] |= {step} - set(LEFT_OUT)
    for source, documents in texts.items():
        for id_ in documents:
            assert _asked(artifact.folder, "--document", f"{source}:{id_}") == sorted(steps_of[source, id_]), id_
    assert max(len(steps) for steps in steps_of.values()) > 5
