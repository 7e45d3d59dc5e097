"""Going back: after several bad steps in a row the last good checkpoint takes over, and the batches that led there are left
out. PaLM's way (Chowdhery et al. 2022, section 5.1): from some 100 steps before the spike on, so that what caused it goes too.
"""

from __future__ import annotations

from lehr.distributed.ranks import Ranks
from lehr.train.recorder import Recorder
from lehr.train.rollback_state import RollbackState, Skipped
from lehr.train.state import TrainState


def rollback(state: TrainState, recorder: Recorder, ranks: Ranks) -> None:
    """Put the newest good checkpoint's content into `state`, with the batches of the bad steps, and of some before them, left
    out. A checkpoint is good once a step from it was: one that the first bad step began with is passed over.

    Where none can be read, training goes on without, and the rollback is used up.
    """
    config, first_bad, skipped = state.rollbacks.config, state.rollbacks.first_bad, state.rollbacks.skipped
    came_from, tokens = state.step, state.tokens
    gone_back = recorder.go_back(state, first_bad, ranks)  # which forgets what was left out since
    first = max(state.step, first_bad - (config.before if config else 0)) if gone_back else came_from
    state.rollbacks = RollbackState(config, [*skipped, Skipped(first, came_from - 1, tokens)])
    recorder.rolled_back(state, came_from, first, came_from - 1)
