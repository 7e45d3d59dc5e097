"""What checkpoints and metrics cost the training beside which they are made: in pairs of runs, and in CPU seconds."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import models
from benchmarks.common import ROOT, Record, main
from lehr.config import load_recipe
from lehr.config.model import Model
from lehr.config.recipe import Recipe
from lehr.data.loader import Batch
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.fan_out import FanOut
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.runtime.ports import NullTracker
from lehr.train.checkpointing.saves import WholeSaves
from lehr.train.loop import Plan, train
from lehr.train.next_token import NextToken, TrainingPhase
from lehr.train.recorder import Recorder, StepRecord
from lehr.train.state import TrainState

_MINUTE = 60.0


class Training:
    """Stage 1's loop of the demo on one rank, on random tokens, in stretches of so many steps."""

    def __init__(self, recipe: Recipe, model: Model, rows: int) -> None:
        s = recipe.stage1
        self.state = TrainState.fresh(Transformer(model).initialise(0), s.optim, recipe.pinned().precision)
        self.phase = TrainingPhase(
            recipe.data.mixes[s.mix], s.tokens, rows, s.sequence_length, s.optim, s.schedule, s.checkpoint_steps, 0
        )
        self.objective = NextToken(self.state, _RandomRows(model.vocab_size, s.sequence_length), self.phase, 0)

    def steps(self, count: int, recorder: Recorder) -> None:
        plan = Plan(self.state.step + count, lambda step, tokens: 1e-4, self.phase.clip_norm, checkpoint_steps=1 << 60)
        train(self.state, self.objective, plan, Ranks(), recorder)


class _RandomRows:
    """Stands for a loader."""

    def __init__(self, vocab_size: int, length: int) -> None:
        self.rows_BT = np.random.default_rng(0).integers(0, vocab_size, (64, length + 1))

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        """See Loader.rows."""
        rows = self.rows_BT[:count]
        return Batch(rows[:, :-1].copy(), rows[:, 1:].copy())


def run() -> Sequence[Record]:
    """Seconds a minute that training loses to one checkpoint a minute (15M parameters), and to the log, the Prometheus exporter
    and MLflow at every step (the demo's model)."""
    recipe = load_recipe(ROOT / "recipes/tiny/olmo2.yaml", [])
    with tempfile.TemporaryDirectory() as place:
        return [*checkpoints(recipe, Path(place)), *metrics(recipe, Path(place))]


def checkpoints(recipe: Recipe, folder: Path, pairs: int = 15, steps: int = 3) -> list[Record]:
    """A stretch with a checkpoint at its start and its end waited for, against the same stretch without."""
    training = Training(recipe, models.config("15M"), 8)
    quiet, saves = Recorder("plain", None, NullTracker(), _saves(folder)), _saves(folder)

    def with_one() -> None:
        saves.save(training.state, 0, lambda size: None)
        training.steps(steps, quiet)
        saves.wait()

    lost = [a - b for a, b in _pairs(with_one, lambda: training.steps(steps, quiet), pairs)]
    spent = statistics.median(_cpu(lambda: (saves.save(training.state, 0, lambda size: None), saves.wait())) for _ in range(5))
    size = sum(t.numel() * t.element_size() for t in training.state.tensors().values()) / 1e6
    return [
        _share(f"a checkpoint of {size:.0f} MB a minute, wall", *_median_and_interval(lost)),
        _share(f"a checkpoint of {size:.0f} MB a minute, CPU", spent, spent, spent),
    ]


def metrics(recipe: Recipe, folder: Path, pairs: int = 80, steps: int = 5) -> list[Record]:
    """Stretches of steps that are logged, exported and tracked, against stretches that are not: what training waits for.
    MLflow's thread writes every three seconds, in either; what it costs is in the CPU seconds of the second record."""
    training = Training(recipe, recipe.model, 8)
    quiet = Recorder("plain", None, NullTracker(), _saves(folder))
    exporter = PrometheusTracker(About("benchmark"))
    exporter.start()
    tracker = FanOut([exporter, MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", "benchmark", "run", str(folder / "art"))])
    tracker.stage_started("stage1", total_steps=10**6, params={})
    watched = Recorder("stage1", folder / "log", tracker, _saves(folder), flops_per_token=1.0)
    watched.open(0)
    found = _pairs(lambda: training.steps(steps, watched), lambda: training.steps(steps, quiet), pairs)
    spent = _cpu(lambda: _only_metrics(training, watched, tracker, 500)) / 500
    watched.close()
    per_step = statistics.median(b for _, b in found) / steps
    lost, cost = [_MINUTE * (a / b - 1) for a, b in found], _MINUTE * spent / per_step
    what, note = "log, exporter and MLflow at each step", f"{1000 * per_step:.0f} ms a step"
    return [_share(f"{what}, wall", *_median_and_interval(lost)), _share(f"{what}, CPU", cost, cost, cost, note)]


def _only_metrics(training: Training, recorder: Recorder, tracker: FanOut, steps: int) -> None:
    """What `steps` steps write down, without the steps, until it has been written."""
    for _ in range(steps):
        training.state.step += 1
        sums = {"loss": 1.0, "weight": 1.0, "tokens": 1024.0, "stop": 0.0}
        recorder.step(training.state, 10**6, StepRecord(1.0, 1.0, 1e-3, True, 0.1), sums, {})
    tracker.close()


def _saves(folder: Path) -> WholeSaves:
    return WholeSaves(folder / "resume", Ranks())


def _cpu(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _pairs(a: Callable[[], object], b: Callable[[], object], count: int) -> list[tuple[float, float]]:
    """Seconds of both, side by side, the first of a pair in turns; one pair more, which does not count, comes before."""
    found = []
    for turn in range(count + 1):
        seconds = {}
        for name, call in (("a", a), ("b", b)) if turn % 2 else (("b", b), ("a", a)):
            began = time.perf_counter()
            call()
            seconds[name] = time.perf_counter() - began
        found.append((seconds["a"], seconds["b"]))
    return found[1:]


def _median_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and the order statistics that hold the true one with a chance of at least 95 % (from the binomial)."""
    ordered, n = sorted(values), len(values)
    reach = min(n // 2, round(0.98 * n**0.5) + 1)
    middle = n // 2
    return statistics.median(ordered), ordered[max(0, middle - reach)], ordered[min(n - 1, middle + reach)]


def _share(case: str, seconds: float, low: float, high: float, note: str = "") -> Record:
    """Of a minute; the target is less than 1 %, and the verdict is left open where the interval holds that."""
    interval = f" ({100 * low / _MINUTE:.2f} to {100 * high / _MINUTE:.2f} %)" if low != high else ""
    text = "; ".join(part for part in (f"{100 * seconds / _MINUTE:.2f} %{interval}", note) if part)
    ratio, unsure = _MINUTE / (_MINUTE + seconds), low < 0.01 * _MINUTE < high
    took = round(_MINUTE + seconds, 3)
    return Record("overhead", case, took, _MINUTE, "without", round(ratio, 4), "s a minute", text, 0.99, unsure)


if __name__ == "__main__":
    sys.exit(main("overhead", run))
