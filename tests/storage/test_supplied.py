"""A user's conversations and preferences in a bucket: read there as they are from a disk."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.config.chat import ConversationsSource
from lehr.data import remote_files
from lehr.infra.storage import S3Objects
from lehr.infra.storage.data_files import S3Files
from lehr.post.sets.files import DataFile, files_of, rows
from lehr.runtime.errors import UserError
from lehr.stages.conversations import described
from lehr.tasks.run_location import serve_data_files
from tests.e2e.helpers import RECIPE, refused, run

ROWS = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(12)]
RECIPE_OF = """
inherits: {parent}
ramp: null
anneals: null
stage1: {{tokens: 4096}}
chat: {{sources: {{mine: {{kind: conversations, path: '{path}'}}}}}}
posttraining: [{{kind: sft, examples: {{mine: all}}, steps: 2, batch_size: 4, optim: {{lr: 1e-3}}, max_length: 128}}]
evaluation: {{in_loop_steps: 0, baselines: null, tasks: [{{task: prose, limit: 2}}]}}
parallel: {{processes: 1}}
"""


serve_data_files()


def _put(root: str, files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    S3Objects(root).upload({name: folder / name for name in files})


def _lines(found: list[dict[str, str]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in found).encode()


def test_a_folder_a_pattern_and_a_file_of_a_bucket_are_what_they_are_on_a_disk(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    files = {
        "set/data/train-00000.jsonl.gz": gzip.compress(_lines(ROWS)),
        "set/data/test-00000.jsonl": _lines(ROWS[:1]),
        "set/dataset_infos.json": b"{}",
        "set/.hidden/train.jsonl": b"no rows",
        "list.json": json.dumps(ROWS[:3]).encode(),
        "setting.jsonl": _lines(ROWS[:2]),
    }
    _put(root, files, disk := tmp_path / "disk")
    for path in ("set", "set/", "set/data/*.jsonl*", "*.json", "setting.jsonl"):
        for split in ("train", "test"):
            there, here = files_of(f"{root}/{path}", split), files_of(str(disk / path), split)
            assert [file.where.removeprefix(root) for file in there] == [file.where.removeprefix(str(disk)) for file in here]
            assert [r.values for file in there for r in rows(file)] == [r.values for file in here for r in rows(file)]
    source = ConversationsSource(kind="conversations", path=f"{root}/setting.jsonl")
    before = described(source)
    assert described(source) == before
    _put(root, {"setting.jsonl": _lines(ROWS[1:3])}, disk)
    assert described(source) != before
    with pytest.raises(UserError, match="replaced while it was read"):
        S3Files(tmp_path).fetch(f"{root}/setting.jsonl", "40 another")


def test_mistakes_in_a_bucket_name_the_address(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    _put(root, {"bad.jsonl": _lines(ROWS[:1]) + b"{no json\n", "cut.jsonl.gz": gzip.compress(_lines(ROWS))[:-9]}, tmp_path)
    with pytest.raises(UserError) as refused:
        list(rows(files_of(f"{root}/bad.jsonl", "train")[0]))
    assert refused.value.where == f"{root}/bad.jsonl:2"
    with pytest.raises(UserError, match="damaged gzip") as refused:
        list(rows(files_of(f"{root}/cut.jsonl.gz", "train")[0]))
    assert refused.value.where == f"{root}/cut.jsonl.gz"
    with pytest.raises(UserError, match="no data files"):
        files_of(f"{root}/absent", "train")
    with pytest.raises(UserError, match="gs:// addresses of data files are not supported"):
        files_of("gs://bucket/a.jsonl", "train")
    assert remote_files.scheme_of(DataFile("a/b.jsonl").where) == ""


@pytest.mark.long
def test_a_run_trains_on_conversations_in_a_bucket(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    _put(root, {"chats/train.jsonl": _lines(ROWS)}, tmp_path)
    (recipe := tmp_path / "recipe.yaml").write_text(RECIPE_OF.format(parent=RECIPE, path=f"{root}/chats"))
    done = run(tmp_path / "run", recipe=recipe)
    assert done.returncode == 0, done.stderr
    made = next((tmp_path / "run/artifacts").glob("sft-rows-*"))
    assert Artifact.open(made).manifest.meta["sets"]["mine"]["rows"] == len(ROWS)
    absent = run(tmp_path / "run", "--set", f"chat.sources.mine.path={root}/none", recipe=recipe)
    refused(absent, f"{root}/none: no data files.")
