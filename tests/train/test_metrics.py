"""Declarations and what is emitted, held against each other: the names are collected from objectives, recorder and scoring."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lehr.artifacts.fingerprint import reachable
from lehr.config.data import Mix
from lehr.config.judged_checks import JUDGED, metric_names
from lehr.config.model import Model
from lehr.config.optim import Guard, Optim, Rollback
from lehr.config.own_task import CHECKS
from lehr.config.schedule import ConstantSchedule
from lehr.config.self_knowledge import About
from lehr.config.training import Watch
from lehr.data.loader import Batch
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.evals.score import score
from lehr.evals.suites import NEEDS_ABOUT, TASKS, examples
from lehr.evals.task import Asked, Document, Generation, Options, Question
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.batches import OfExamples
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.preference import DpoObjective, DpoSettings, RenderedPair, reference_logprobs
from lehr.post.rendered import Rendered
from lehr.post.sft import SftObjective
from lehr.runtime import metrics
from lehr.runtime.errors import Bug
from lehr.stages.pretrain import run
from lehr.train.checkpointing.checkpoint import copy_parameters
from lehr.train.checkpointing.resume_state import ResumeFiles
from lehr.train.loop import Objective, Plan, Sums, train
from lehr.train.next_token import NextToken, TrainingPhase
from lehr.train.recorder import Recorder
from lehr.train.state import TrainState
from lehr.train.step_times import SAMPLING, part
from tests.evals.fakes import TableModel
from tests.post import training
from tests.train.test_stability import Curves

sys.path.insert(0, str(Path(__file__).parent))
import pieces

EXPERTS = Model(
    family="granitemoe", vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=16,
    n_experts=4, top_k=2,
)  # fmt: skip


class Rows:
    """Random windows, as a loader would give them."""

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        rows = np.random.default_rng(first).integers(0, 50, (count, 17))
        return Batch(rows[:, :-1].copy(), rows[:, 1:].copy())


def _next_token(model: Model) -> Objective:
    state = TrainState.fresh(Transformer(model).initialise(1), pieces.OPTIM)
    phase = TrainingPhase(Mix(weights={"a": 1.0}), 8 * 16, 8, 16, pieces.OPTIM, ConstantSchedule(kind="constant"), 100, 0)
    return NextToken(state, Rows(), phase)


def _post_training() -> list[Objective]:
    tokenizer = Tokenizer.train(["a b c " * 50], 300)
    model = Transformer(pieces.MODEL.model_copy(update={"vocab_size": 300})).initialise(1)
    chosen, rejected = Rendered([3, 9, 20, 0], [False, False, True, True]), Rendered([3, 8, 0], [False, False, True])
    reference, settings = copy_parameters(model), GrpoSettings(2, 2, 1.0, 3, 0.2, 0.28, 0.1)
    prompts = [Prompt([9, 10], lambda ids, finished: float(ids[0] < 150))]
    pairs = [RenderedPair(chosen, rejected)]
    state = TrainState.fresh(model, pieces.OPTIM)
    state.frozen["reference"] = reference
    policy = LanguageModel(model, tokenizer, chat=True)
    return [
        SftObjective(model, [chosen, rejected], OfExamples(2, 2, 0)),
        DpoObjective(model, pairs, reference_logprobs(model, pairs, Ranks()), DpoSettings(1, 5.0, 0.1), 0),
        GrpoObjective(state, policy, prompts, settings, 0),
        GrpoObjective(state, policy, prompts, replace(settings, mini_batches=2), 0),
        training.ppo(*training.fresh()),
        training.brain(*training.fresh()),
    ]


def _objectives() -> set[str]:
    """Names that every objective says it reports and does report."""
    found: set[str] = set()
    for objective in [_next_token(pieces.MODEL), _next_token(EXPERTS), *_post_training()]:
        sums = objective.backward(0, Ranks())
        assert set(sums.extra) == set(objective.extras), type(objective).__name__
        found |= {f"{name}_loss" for name in sums.models}
        found |= set(objective.extras) | ({"data_seconds"} if sums.data_seconds >= 0 else set())
    return found


@dataclass
class Bad(pieces.Copying):
    """Steps 12 to 14 are refused: the stage goes back."""

    state: TrainState

    def backward(self, step: int, ranks: Ranks) -> Sums:
        return pieces.Copying(self.state.model, step if 12 <= step < 15 else -1).backward(step, ranks)


class Samples(pieces.Copying):
    """Answers before it learns."""

    def __init__(self, state: TrainState) -> None:
        super().__init__(state.model)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        with part(SAMPLING):
            pass
        return super().backward(step, ranks)


def _measured(state: TrainState, ranks: Ranks) -> dict[str, float]:
    return {metrics.DEV + "bits_per_byte": 1.0}


def _recorder(folder: Path) -> set[str]:
    """Names in the log and at the trackers of a stage that saves, evaluates, measures norms and goes back."""
    tracker = Curves()
    optim = Optim(lr=3e-3, guard=Guard(window=16, sigmas=6.0, rollback=Rollback(after=3, limit=2)))
    artifact = pieces.stage(folder, Bad, optim=optim, tracker=tracker, watch=Watch(norm_steps=2), evaluator=_measured)
    rows = [json.loads(line) for line in artifact.path("logs/curves.jsonl").read_text().splitlines()]
    with contextlib.suppress(pieces.Stop):
        pieces.stage(folder / "killed", lambda state: pieces.StopAt(state.model, 23), tracker=tracker)
    pieces.stage(folder / "killed", Samples, world=2, tracker=tracker)
    return {name for row in rows for name in row} | {name for _, point in tracker.points for name in point}


def _scores(folder: Path) -> set[str]:
    """Names that scoring gives every task."""
    words = " ".join(f"word{k}" for k in range(200))
    documents = "".join(json.dumps({"id": f"{i}", "source": "novel", "text": f"{i} {words}"}) + "\n" for i in range(8))
    (folder / "dev.jsonl.gz").write_bytes(gzip.compress(documents.encode()))
    pair = {"prompt": [{"role": "user", "content": "q"}], "chosen": "yes", "rejected": "no", "split": "dev"}
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    model, found = TableModel(lambda ids, token: 0.5, max_length=512), set()
    about = About(name="Quill", makers=["the Glass Works"], license="Apache-2.0", abilities=["add numbers"])
    for task in TASKS:
        given = about if task in NEEDS_ABOUT else folder / "pairs.jsonl"
        asked = examples(task, "dev", 4, 5, folder, given)
        found |= {record.metric for record in score(model, "soup", task, "dev", asked, seed=1)}
    shipped = [Options(("q", "q"), (" a", " b"), 0, alone=("x", "x"))]  # of a package (tests/evals/test_packaged.py)
    found |= {record.metric for record in score(model, "soup", "t", "dev", shipped, seed=1)}
    # Tasks of one's own: the checks that need no package or sandbox here; the others are named as their verifiers are.
    said = [("exact_match", {"answers": ["a"]}), ("f1", {"answers": ["a"]}), ("mentions", {"all": ["a"]})]
    one = Question("q", (" a",), (0,), 1, None, "answer_nats", "lehr", "q a")
    many = Asked("q", (), tuple(said), (("", ()),), ("x",), 4, 1.0, 2, (1,), "lehr", "q")
    for own in (one, many):
        found |= {record.metric.partition("@")[0] for record in score(model, "soup", "t", "dev", [own], seed=1)}
    texts = [Document("some words", "", "web", domain) for domain in ("news", "news", "blogs")]
    found |= {record.metric for record in score(model, "soup", "t", "dev", texts, seed=1)}
    assert found >= set(dict(said)) | {"pass", "perplexity_over_domains"}
    judged = {name for check in JUDGED for said in ({}, {"against": "a"}) for name in metric_names(check, said, 2)}
    return found | (set(CHECKS) - set(JUDGED)) | judged  # tests/evals/test_judges.py has them emitted


def test_every_name_is_declared_and_every_declaration_is_used(tmp_path: Path) -> None:
    emitted = _objectives() | _recorder(tmp_path) | _scores(tmp_path)
    metrics.require(emitted | {metrics.DEV + "bits_per_byte"})
    own = {m.name for m in metrics.BUILT_IN if not m.baseline_of}  # of baselines: tests/evals/test_baselines.py
    # Of memory copies, which need several machines (tests/distributed/test_memory_copies.py), and of an engine elsewhere
    # (tests/post/test_http_sampler.py).
    own -= {"copy_seconds", "sampler_difference"}
    # The first is of the tests' own objective, the second what `DEV` makes of a metric.
    assert own == emitted - {"rows", metrics.DEV + "bits_per_byte"}


def test_training_and_scoring_refuse_a_name_that_nobody_declared(tmp_path: Path) -> None:
    state = TrainState.fresh(Transformer(pieces.MODEL).initialise(1), pieces.OPTIM)
    objective = pieces.Copying(state.model)
    objective.extras = ("rows", "sparkle")
    recorder = Recorder("t", None, Curves(), ResumeFiles(tmp_path))
    with pytest.raises(Bug, match="undeclared metrics: sparkle;"):
        train(state, objective, Plan(3, lambda step, tokens: 1e-3, lambda step, tokens: 1.0, 100), Ranks(), recorder)
    assert state.step == 0
    asked = [Generation("q", [], {"sparkle": ("last_integer", {"answer": 1})}, {})]
    with pytest.raises(Bug, match="undeclared metrics: sparkle;"):
        score(TableModel(lambda ids, token: 0.5), "soup", "t", "dev", asked, seed=1)


def test_what_a_metric_is_called_changes_no_stage() -> None:
    assert {"lehr.train.loop", "lehr.evals.perplexity"} <= set(reachable(run))
    assert "lehr.runtime.metrics" not in reachable(run)
