"""The main process of a task's pod: `python -m tests.tasks.trainer FOLDER hang|peer|device|network|mistake|well`.

The real loop under the real trackers; at step 10 it hangs, or a device or the network fails. Checkpoints every four steps.
`peer` is for two ranks that a launcher started: the second one hangs, after a save that the first one waited for.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from lehr.config import load_recipe
from lehr.distributed.ranks import Local, Ranks, run_ranks
from lehr.runtime.errors import InfraError
from lehr.runtime.ports import NullTracker
from lehr.tasks.owned import owned
from lehr.tasks.refs import RunRef
from lehr.tasks.session import open_session
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Plan, Sums
from lehr.train.state import TrainState
from tests.train.pieces import MODEL, OPTIM, Copying, Transformer, context

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny" / "olmo2.yaml"
AT = 10
SLOW_DISK_SECONDS = 8.0  # longer than a watchdog's 3


class Failing(Copying):
    how = "well"

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if step == AT and self.how == "hang":
            time.sleep(3600)
        if step == AT and self.how == "device":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be reported later")
        if step == AT and self.how == "network":
            raise InfraError("the store does not answer")
        if step == AT and self.how == "mistake":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().backward(step, ranks)


@owned()
def main(folder: Path, how: str) -> None:
    run = RunRef(recipe="r", root=str(folder), key="k")
    session = open_session(run, load_recipe(TINY), ["stage1"], mlflow=False)
    session.tracker.stage_started("stage1", total_steps=20, params={})
    place = replace(context(folder), tracker=Local(session.tracker, NullTracker()))
    if how == "peer":
        place = replace(place, saved=Local(lambda: time.sleep(SLOW_DISK_SECONDS), None))  # step 8 waits for 4's
        run_ranks(2, 1, train, place, how)
    else:
        train(Ranks(), place, how)


def train(ranks: Ranks, place: RankContext, how: str) -> None:
    state = TrainState.fresh(Transformer(MODEL).initialise(1), OPTIM)
    objective = Failing(state.model)
    objective.how = "hang" if how == "peer" and ranks.rank == 1 else how
    fit(place, ranks, state, objective, Plan(20, lambda s, t: 1e-3, lambda s, t: 1.0, 4))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
