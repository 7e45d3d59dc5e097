"""Whole stages under sharded layouts: interrupted and gone on with under another layout, damaged, overtaken, and handed on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lehr.artifacts.artifact import Artifact, ArtifactRef
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.tensors import read_tensors
from lehr.config import Recipe, load_recipe
from lehr.distributed.sharding.restore import saves_in
from lehr.pipeline.attempt import StageContext
from lehr.runtime.errors import Preempted
from lehr.runtime.ports import NullTracker
from tests.distributed.cases import distance, rows_of
from tests.staging import made_of

ROOT = Path(__file__).resolve().parents[2]
ONE: dict[str, Any] = {"processes": 1}
FSDP = {"processes": 2, "layout": "fsdp"}
TENSOR, PIPELINE = {**FSDP, "tensor": 2}, {**FSDP, "pipeline": 2, "micro_batch": 4}
ZERO = {"processes": 2, "layout": "zero1"}
LOSS, WEIGHT = 2e-6, 1e-5  # relative; sums are taken in another order


@dataclass
class Watcher(NullTracker):
    """Keeps notes, and does something once a step is made."""

    then: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        self.then.get(step, lambda: None)()

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Inputs:
    """What pretraining reads: shards, documents, tokenizer."""

    shards: Artifact
    documents: Artifact
    tokenizer: Artifact

    def stage1(self, root: Path, parallel: dict[str, Any], tracker: Watcher | None = None) -> Artifact:
        """Twenty steps, saved every fourth, evaluated every seventh."""
        context = StageContext(LocalStore(root), tracker or Watcher())
        return made_of(recipe(parallel), ["stage1"], context, self.refs)["stage1"]

    @property
    def refs(self) -> dict[str, ArtifactRef]:
        return {a.manifest.stage: a.ref for a in (self.shards, self.documents, self.tokenizer)}

    def anneal(self, index: int, parent: Artifact, root: Path, parallel: dict[str, Any]) -> Artifact:
        plan = recipe(parallel)
        assert plan.anneals is not None
        name, refs = plan.anneals.names[index], {**self.refs, "ramp": parent.ref}
        return made_of(plan, [name], StageContext(LocalStore(root)), refs)[name]


def recipe(parallel: dict[str, Any]) -> Recipe:
    """The small run of the end-to-end tests, in fp32, at a rate that lets no rounding error grow."""
    sizes = ["stage1.tokens=20480", "stage1.checkpoint_steps=4", "anneals.tokens=6144"]
    sizes += ["precision=fp32", "stage1.optim.lr=1e-3"]
    layout = [f"parallel.{key}={value}" for key, value in parallel.items()]
    return load_recipe(ROOT / "tests" / "e2e" / "recipe.yaml", [*sizes, *layout])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    context = StageContext(LocalStore(tmp_path_factory.mktemp("data")))
    return Inputs(**made_of(recipe(ONE), ["documents", "tokenizer", "shards"], context))


@pytest.fixture(scope="module")
def alone(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Stage 1 by one process that holds everything, never interrupted."""
    return inputs.stage1(tmp_path_factory.mktemp("alone"), ONE)


@pytest.fixture(scope="module")
def sharded(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same under FSDP2 on two ranks."""
    return inputs.stage1(tmp_path_factory.mktemp("sharded"), FSDP)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _agree(ours: Artifact, theirs: Artifact) -> None:
    """Log, evaluations on the way, weights, moments, and what is said to children."""
    a, b = (rows_of(artifact.path("logs/curves.jsonl")) for artifact in (ours, theirs))
    assert [row["step"] for row in a] == [row["step"] for row in b]
    for key in ("loss", "dev_bits_per_byte"):
        assert any(key in row for row in b)
        np.testing.assert_allclose([r[key] for r in a if key in r], [r[key] for r in b if key in r], rtol=LOSS)
    for file, tolerance in (("model.safetensors", WEIGHT), ("optimizer.safetensors", 100 * WEIGHT)):
        assert distance(*(read_tensors(artifact.path(file)) for artifact in (ours, theirs))) < tolerance, file
    assert ours.path("train.json").read_bytes() == theirs.path("train.json").read_bytes()


@pytest.mark.long
def test_a_sharded_stage_ends_in_the_checkpoint_of_a_whole_one(alone: Artifact, sharded: Artifact) -> None:
    assert sharded.manifest.fingerprint != alone.manifest.fingerprint
    _agree(sharded, alone)


@pytest.mark.long
def test_a_stage_goes_on_under_any_other_layout(inputs: Inputs, alone: Artifact, tmp_path: Path) -> None:
    """One process, FSDP2, tensor parallel, pipeline, ZeRO-1, one process: each stopped by SIGTERM, each going on from the save
    of the one before."""
    steps = []
    for at, parallel in {2: ONE, 5: FSDP, 8: TENSOR, 11: PIPELINE, 14: ZERO}.items():
        with pytest.raises(Preempted, match=f"after step {at + 1} of 20, which is saved"):
            inputs.stage1(tmp_path, parallel, Watcher({at: _terminate}))
        (folder,) = (tmp_path / "work").glob("stage1-*/resume")
        steps.append(saves_in(folder)[0].step)
    last = Watcher()
    _agree(inputs.stage1(tmp_path, ONE, last), alone)
    assert steps == [3, 6, 9, 12, 15] and "stage1: going on at step 15" in last.notes
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.long
def test_a_damaged_save_is_passed_over_and_the_bits_stay(inputs: Inputs, sharded: Artifact, tmp_path: Path) -> None:
    """Stopped after step 10, whose save loses a bit: the one of step 8 is used, and all ends as if nothing had happened."""
    with pytest.raises(Preempted):
        inputs.stage1(tmp_path, FSDP, Watcher({9: _terminate}))
    (folder,) = (tmp_path / "work").glob("stage1-*/resume")
    saves = saves_in(folder)
    assert [save.step for save in saves] == [10, 8, 4]
    shard = next(iter(sorted(saves[0].path.glob("shard-*.safetensors"))))
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    again = Watcher()
    assert inputs.stage1(tmp_path, FSDP, again).manifest.digest == sharded.manifest.digest
    assert "stage1: going on at step 8" in again.notes
    assert any("sharded-00000010" in note and "damaged" in note for note in again.notes)


@pytest.mark.long
def test_an_overtaken_attempt_completes_no_save(inputs: Inputs, sharded: Artifact, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def overtake() -> None:
        (record,) = (tmp_path / "attempts").glob("stage1-*.json")
        store.begin(record.stem)

    with pytest.raises(Preempted, match="attempt 1 is over, attempt 2 began"):
        inputs.stage1(tmp_path, FSDP, Watcher({6: overtake}))
    (folder,) = (tmp_path / "work").glob("stage1-*/resume")
    assert [save.step for save in saves_in(folder)] == [4]
    assert not (tmp_path / "artifacts").exists()
    assert inputs.stage1(tmp_path, FSDP).manifest.digest == sharded.manifest.digest


@pytest.mark.long
def test_later_stages_take_it(inputs: Inputs, sharded: Artifact, tmp_path: Path) -> None:
    """An anneal under one layout, another under another, and their mean."""
    plan = recipe(ONE)
    anneals = [inputs.anneal(index, sharded, tmp_path, how) for index, how in enumerate((TENSOR, ONE))]
    flat = inputs.anneal(0, sharded, tmp_path / "flat", ONE)
    assert distance(*(read_tensors(a.path("model.safetensors")) for a in (anneals[0], flat))) < WEIGHT
    refs = dict(zip(["anneal-1", "anneal-2"], [a.ref for a in anneals], strict=True))
    mean = made_of(plan, ["soup"], StageContext(LocalStore(tmp_path)), refs)["soup"]
    a, b, m = (read_tensors(artifact.path("model.safetensors")) for artifact in (*anneals, mean))
    assert all(np.allclose((a[name] + b[name]) / 2, m[name], atol=1e-7) for name in m)
