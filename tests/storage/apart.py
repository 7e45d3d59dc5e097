"""One rank of two, on a machine that shares nothing but a bucket with the other's; what a launcher would start there.

    python -m tests.storage.apart ROOT LAYOUT DIE_AT SHARDS DOCUMENTS TOKENIZER       the last three: addresses
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from infra.storage import S3Objects
from lehr.artifact import Artifact
from lehr.launcher import together
from lehr.ports import NullTracker
from lehr.remote.store import ObjectStore
from lehr.stage import Surroundings
from lehr.stages import pretrain
from tests.storage.machines import small


class Dies(NullTracker):
    """Rank 0 is killed when step `at` is made and a save of it has arrived."""

    def __init__(self, at: int) -> None:
        self.at = at

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, layout: str, at: str, *addresses: str) -> None:
    store = ObjectStore(S3Objects(root))

    def work() -> str:
        inputs = [Artifact.open(store.fetch(uri), uri=uri) for uri in addresses]
        return pretrain.stage1(small(2, layout), *inputs, Surroundings(store, Dies(int(at)))).uri

    print(together(work), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
