"""One rank of two, on a machine that shares nothing but a bucket with the other's; what a launcher would start there.

python -m tests.storage.apart ROOT LAYOUT DIE_AT SHARDS DOCUMENTS TOKENIZER       the last three: addresses
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping

import torch.distributed as dist

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.object_store.store import ObjectStore
from lehr.distributed.rank_launcher import lead_or_follow
from lehr.infra.storage import S3Objects
from lehr.pipeline.attempt import StageContext
from lehr.runtime.ports import NullTracker, Objects
from lehr.train.next_token import NextToken
from tests.staging import made_of
from tests.storage.machines import misled, small


class Dies(NullTracker):
    """Rank 0 is killed when step `at` is made and a save has arrived."""

    def __init__(self, at: int, objects: Objects) -> None:
        self.at, self.objects = at, objects

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if step == self.at:
            (key,) = self.objects.keys("attempts/stage1-")
            while "manifest.json" not in str(found := self.objects.get(key)) and "state-0" not in str(found):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, layout: str, at: str, *addresses: str) -> None:
    store = ObjectStore(S3Objects(root))
    NextToken.backward = misled()  # type: ignore[method-assign]

    def work() -> str:
        inputs = [Artifact.open(store.fetch(uri), uri=uri).ref for uri in addresses]
        context = StageContext(store, Dies(int(at), store.objects), fetch=store.fetch)
        return made_of(small(2, layout), ["stage1"], context, {ref.kind: ref for ref in inputs})["stage1"].uri

    print(lead_or_follow(work), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
