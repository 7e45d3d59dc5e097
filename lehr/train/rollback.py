"""Rollback: after several bad steps in a row the last good checkpoint is restored, and the batches that led there are left
out, as in PaLM (Chowdhery et al. 2022, section 5.1): from about 100 steps before the spike, to include the batches that
caused it.
"""

from __future__ import annotations

from lehr.distributed.ranks import Ranks
from lehr.train.recorder import Recorder
from lehr.train.rollback_state import RollbackState, Skipped
from lehr.train.state import TrainState


def rollback(state: TrainState, recorder: Recorder, ranks: Ranks) -> None:
    """Restore the newest good checkpoint into `state`, and leave out the batches of the bad steps and of some steps before.

    A checkpoint is good only if the step after it was: the one from which the first bad step started is passed over, since its
    weights may have caused it. If no checkpoint can be read, training goes on without going back, and the rollback counts as
    used.
    """
    # Read before `go_back`, which restores an older list of skipped batches together with the rest of the state.
    config, first_bad, skipped = state.rollbacks.config, state.rollbacks.first_bad, state.rollbacks.skipped
    came_from, tokens = state.step, state.tokens
    gone_back = recorder.go_back(state, first_bad, ranks)
    first = max(state.step, first_bad - (config.before if config else 0)) if gone_back else came_from
    state.rollbacks = RollbackState(config, [*skipped, Skipped(first, came_from - 1, tokens)])
    recorder.rolled_back(state, came_from, first, came_from - 1)
