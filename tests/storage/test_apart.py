"""Ranks on two machines that share nothing but the bucket: killed, both caches lost, and the same bits at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.incidents import read_incidents
from lehr.artifacts.object_store import record as records
from lehr.pipeline.attempt import StageContext
from lehr.runtime.ports import Store
from lehr.train.next_token import NextToken
from tests.staging import made_of
from tests.storage import s3_server
from tests.storage.machines import machine, misled, small

ROOT = Path(__file__).resolve().parents[2]


def _either(store: Store, uri: str) -> Path:
    return store.fetch(uri) if "://" in uri else Path(uri)


def _both(tmp_path: Path, arguments: list[str]) -> list[tuple[int, str, str]]:
    """A rank on each machine, as torchrun would start them: (exit code, stdout, stderr)."""
    common = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(s3_server.free_port()), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.storage.apart", *arguments]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**common, "RANK": str(rank), "GROUP_RANK": str(rank), "LEHR_CACHE": str(tmp_path / f"machine-{rank}")},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *out) for process, out in zip(started, said, strict=True)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("layout", ["flat", "fsdp"])
def test_ranks_on_two_machines_save_into_the_store_and_go_on_from_it(
    root: str, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way they go back once, to a save of which each machine has a part."""
    monkeypatch.setattr(NextToken, "backward", misled())
    plan, store = small(2, layout), machine(root, tmp_path / "maker")
    made = made_of(plan, ["documents", "tokenizer", "shards"], StageContext(store, fetch=store.fetch))
    refs, elsewhere = {name: artifact.ref for name, artifact in made.items()}, LocalStore(tmp_path / "alone")
    alone = made_of(plan, ["stage1"], StageContext(elsewhere, fetch=lambda uri: _either(store, uri)), refs)["stage1"]
    addresses = [refs[name].uri for name in ("shards", "documents", "tokenizer")]
    killed, other = _both(tmp_path, [root, layout, "8", *addresses])
    assert killed[0] == -signal.SIGKILL and other[0] != 0
    (record,) = (records.read(store.objects, key[9:-5]) or () for key in store.objects.keys("attempts/stage1-"))
    parts = [path for path, kept in record[0].kept.items() if "/remote/" in kept.object]
    assert all("shard-00001" in path for path in parts) and bool(parts) == (layout == "fsdp")
    for rank in range(2):
        shutil.rmtree(tmp_path / f"machine-{rank}")
    first, second = _both(tmp_path, [root, layout, "-1", *addresses])
    assert first[0] == second[0] == 0, (first[2] + second[2])[-3000:]
    assert first[1] == second[1]
    again = Artifact.open(store.fetch(first[1].split()[-1]))
    assert again.manifest.digest == alone.manifest.digest
    assert "attempt 1 (host " in read_incidents(again)[0] and "going on at step" in read_incidents(again)[1]
    assert "went back to step 12, leaving out batches" in read_incidents(again)[2]
    assert "went back to step 12" in read_incidents(alone)[0]
    assert store.objects.keys("work/") == []
    assert not list((tmp_path / "machine-1").rglob("*.safetensors"))  # of saves, nothing stays there
