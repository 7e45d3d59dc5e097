"""What tracking in MLflow costs a training step: `python -m benchmarks.tracking [--uri URL] [--steps 10000]`.

Processor time of what a step writes down, with a tracker and without, in pairs, without the steps themselves; the tracker sends
at the demo's pace. Then resident memory while many steps are tracked. Without --uri into a file, as `lehr run` does; a server
that does not answer is one too: --uri http://127.0.0.1:9.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.overhead import Training
from lehr.config import load_recipe
from lehr.distributed.ranks import Ranks
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.runtime.ports import NullTracker, Tracker
from lehr.train import step_times
from lehr.train.checkpointing.saves import WholeSaves
from lehr.train.recorder import Recorder, StepRecord

TOGETHER = 40  # steps that are sent at once: what the demo makes in the three seconds between two batches
_TIMES = {f"{name}_seconds": 0.01 for name in step_times.NAMES}
_SCALARS = {"loss": 1.0, "weight": 1.0, "tokens": 1024.0, "stop": 0.0, "data_seconds": 0.01, "straggler_ratio": 1.0, **_TIMES}


class Written:
    """What a stage's steps write down, of as many steps as are asked for."""

    def __init__(self, training: Training, folder: Path, name: str, tracker: Tracker, steps: int) -> None:
        self.state, self.tracker, self.steps = training.state, tracker, steps
        self.recorder = Recorder(name, folder / name, tracker, WholeSaves(folder / "saves", Ranks()), flops_per_token=1.0)
        tracker.stage_started(name, total_steps=steps, params={})
        self.recorder.open(0)
        self.step = 0

    def more(self, count: int, wait: bool = True) -> None:
        for _ in range(count):
            self.step += 1
            self.state.step = self.step
            self.recorder.step(self.state, self.steps, StepRecord(1.0 / self.step, 1.0, 1e-3, True, 0.1), _SCALARS, {})
            if wait and self.step % TOGETHER == 0:
                until_sent(self.tracker)


def until_sent(tracker: Tracker) -> None:
    while isinstance(tracker, MlflowTracker) and tracker.waiting and not tracker._down:
        time.sleep(0.05)


def cost(training: Training, folder: Path, tracker: MlflowTracker, pairs: int = 10, steps: int = 4 * TOGETHER) -> list[float]:
    """CPU seconds that the tracker costs a step, by pair."""
    ours = Written(training, folder, "tracked", tracker, pairs * steps + steps)
    plain = Written(training, folder, "plain", NullTracker(), pairs * steps + steps)
    found = []
    for turn in range(pairs + 1):
        spent = {}
        for one in (ours, plain) if turn % 2 else (plain, ours):
            began = time.process_time()
            one.more(steps)
            spent[one] = time.process_time() - began
        found.append((spent[ours] - spent[plain]) / steps)
    return found[1:]  # the first pair loads MLflow


def resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", default="")
    parser.add_argument("--steps", type=int, default=10_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(ROOT / "recipes/tiny/olmo2.yaml", [])
    training = Training(recipe, recipe.model, 8)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        began = time.process_time()
        training.steps(40, Recorder("plain", None, NullTracker(), WholeSaves(folder / "saves", Ranks())))
        step = (time.process_time() - began) / 40
        own, options = f"sqlite:///{folder / 'mlflow.db'}", {"pending": folder / "pending", "flush_seconds": 0.2}
        tracker = MlflowTracker(given.uri or own, "benchmark", "run", run_key=os.urandom(8).hex(), **options)
        found = sorted(cost(training, folder, tracker))
        middle, least, most = (1e6 * seconds for seconds in (statistics.median(found), found[0], found[-1]))
        print(
            f"{middle:.0f} us of CPU a step ({least:.0f} to {most:.0f}), {middle / step / 1e4:.2f} % of the {1e3 * step:.1f} ms"
        )
        print("that a step of the demo's model takes on one thread")
        many = Written(training, folder, "many", tracker, given.steps)
        for tenth in range(1, 11):
            many.more(given.steps // 10)
            print(f"{tenth * given.steps // 10:,} steps: {resident_mib():.1f} MiB")
        tracker.close()


if __name__ == "__main__":
    main()
