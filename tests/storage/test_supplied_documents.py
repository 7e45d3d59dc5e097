"""A user's documents in a bucket: read there as they are from a disk, whatever their format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lehr.data.readers import fingerprint, inputs
from lehr.infra.storage import S3Objects
from lehr.runtime.errors import UserError
from lehr.tasks.run_location import serve_data_files
from tests.data.readers.made import MIT, PAGE, in_members, in_parquet, read, record, source, tar

serve_data_files()


def _put(root: str, files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    S3Objects(root).upload({name: folder / name for name in files})


def test_folders_patterns_and_files_of_a_bucket_are_what_they_are_on_a_disk(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    files = {
        "set/data/train-0.parquet": in_parquet([{"text": "one", "url": "http://a/"}, {"text": "two", "url": None}]),
        "set/data/test-0.parquet": in_parquet([{"text": "no"}]),
        "set/more.jsonl.gz": gzip.compress(b'{"text": "three"}\n'),
        "set/README.md": b"no",
        "crawl/a.warc.gz": in_members([record(PAGE.encode(), WARC_Record_ID="<urn:uuid:1>")]),
        "code/one/LICENSE": MIT.encode(),
        "code/one/src/a.py": b"x = 1\n",
        "code/b.py": b"y = 2\n",
        "tars/a.tar.gz": gzip.compress(tar({"a/COPYING": MIT.encode(), "a/b.py": b"z"})),
        "cut.jsonl.gz": gzip.compress(b'{"text": "three"}\n')[:-9],
    }
    _put(root, files, disk := tmp_path / "disk")
    for path, format_ in {"set": "auto", "set/*.gz": "auto", "crawl/a.warc.gz": "auto", "code": "code", "tars": "code"}.items():
        there, here = (source(f"{at}/{path}", format=format_) for at in (root, disk))
        assert [(one.name, one.size, one.license) for one in inputs(there)] == [
            (one.name, one.size, one.license) for one in inputs(here)
        ]
        assert read(there.path, format=format_) == (found := read(here.path, format=format_)) and found
    assert {d.metadata["path"]: d.license for d in read(f"{root}/code", format="code")}["one/src/a.py"] == "MIT"
    before = fingerprint(source(f"{root}/set"))
    assert fingerprint(source(f"{root}/set")) == before
    _put(root, {"set/data/train-0.parquet": in_parquet([{"text": "four"}])}, disk)
    assert fingerprint(source(f"{root}/set")) != before
    with pytest.raises(UserError) as caught:
        read(f"{root}/cut.jsonl.gz")
    assert caught.value.where == f"{root}/cut.jsonl.gz"
    with pytest.raises(UserError, match="no data files"):
        read(f"{root}/none")
