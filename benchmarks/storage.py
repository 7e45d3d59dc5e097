"""Object storage: how fast a file goes up and comes down, and how long training waits while a save is copied away."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import boto3
import torch

from benchmarks.common import Record, compared, in_turns, main
from lehr.artifacts.object_store.store import ObjectStore
from lehr.infra.storage import S3Objects
from lehr.runtime.ports import RESUME
from lehr.train.checkpointing.resume_state import ResumeFiles
from tests.storage import s3_server

_MB = 200
_BUCKET = "lehr-bench"


def run() -> Sequence[Record]:
    """MB/s of a file of 200 MB to and from SeaweedFS on loopback, which is what bounds them, against boto3 as it comes; and
    milliseconds that training waits for a save of 100 MB, with the store behind it and without."""
    with tempfile.TemporaryDirectory() as place, s3_server.seaweed(Path(place)) as url:
        os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": s3_server.KEY, "AWS_SECRET_ACCESS_KEY": s3_server.SECRET}
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        client = boto3.client("s3")
        client.create_bucket(Bucket=_BUCKET)
        return [*_transfers(Path(place), client), _waits(Path(place))]


def _transfers(place: Path, client: object) -> list[Record]:
    objects, file, back = S3Objects(f"s3://{_BUCKET}/lehr"), place / "file", place / "back"
    file.write_bytes(os.urandom(_MB * 1_000_000))
    found = in_turns(
        {
            "up": lambda: objects.upload({"file": file}),
            "plain up": lambda: client.upload_file(str(file), _BUCKET, "plain"),  # type: ignore[attr-defined]
            "down": lambda: objects.download({"file": back}),
            "plain down": lambda: client.download_file(_BUCKET, "plain", str(back)),  # type: ignore[attr-defined]
        },
        turns=3,
        warm=1,
    )
    rates = {name: _MB / seconds for name, seconds in found.items()}
    return [
        compared("storage", "upload, parts with SHA-256", rates["up"], rates["plain up"], "boto3 (CRC32)", "MB/s"),
        compared("storage", "download", rates["down"], rates["plain down"], "boto3", "MB/s"),
    ]


def _waits(place: Path) -> Record:
    state = {name: torch.randn(8_333_333) for name in ("values", "first", "second")}
    store = ObjectStore(S3Objects(f"s3://{_BUCKET}/waits"), place / "cache")
    fencing = store.begin("s")
    kept = ResumeFiles(store.scratch("s", fencing) / RESUME, fencing)
    alone = ResumeFiles(place / "alone")
    found = in_turns(
        {
            "with": lambda: kept.save(0, state, 0, lambda size: None),
            "kept": kept.wait,
            "settled": fencing.flush,  # saves come further apart than a copy takes
            "without": lambda: alone.save(0, state, 0, lambda size: None),
            "alone": alone.wait,
        },
        turns=5,
    )
    with_store, without = found["with"] * 1000, found["without"] * 1000
    return compared(
        "storage", "training waits, 100 MB", with_store, without, "the same without a store", "ms", less_is_better=True
    )


if __name__ == "__main__":
    sys.exit(main("storage", run))
