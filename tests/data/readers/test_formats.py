"""Every format is read as it was written, with what is known of each document."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from lehr.config.data import Data
from lehr.config.mix import Mix
from lehr.data.preparation.corpus import prepare_corpus
from lehr.data.readers import Damage, fingerprint, inputs
from tests.data.readers.made import MIT, PAGE, in_members, jsonl, read, record, skipping, source, tar

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
ROWS = [
    {"id": "a", "text": "eins", "url": "http://a/", "language": "deu_Latn", "license": "MIT", "stars": 7, "meta": {"n": 1.5}},
    {"text": "two", "language": "Python", "license": ["MIT", "Apache-2.0"], "long": "x" * 400, "tags": ["no"], "date": None},
]
SEEN = [
    ("a", "eins", "http://a/", "MIT", "de", {"stars": 7, "meta.n": 1.5}),
    ("web-2", "two", "", "Apache-2.0 AND MIT", "", {"language": "Python"}),
]


@pytest.mark.parametrize("end", COMPRESS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "unnamed"])
def test_json_lines(name: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}{end}"
    path.write_bytes(COMPRESS[end]("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    found = read(path)
    assert [(d.id, d.text, d.url, d.license, d.language, d.metadata) for d in found] == SEEN
    assert read(path, kind="jsonl") == found
    assert {d.text_type for d in read(path, text_type="reference")} == {"reference"}


def test_parquet_rows_are_those_of_json_lines(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([ROWS[0] | {"license": ["MIT"]}, ROWS[1]])
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=1)
    (tmp_path / "rows.parquet").rename(tmp_path / "unnamed")
    found = read(tmp_path / "unnamed")
    assert [(d.id, d.text, d.url, d.license, d.language, d.metadata) for d in found] == SEEN


def test_fields_may_have_other_names_and_lie_in_others(tmp_path: Path) -> None:
    rows = [{"id": 5, "content": "text", "meta": {"address": "u", "day": date(2024, 1, 2)}, "lang": "fr", "text": "no"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    fields = {"text": "content", "url": "meta.address", "language": "lang"}
    (found,) = read(tmp_path / "rows.parquet", fields=fields)
    assert (found.id, found.text, found.url, found.language) == ("5", "text", "u", "fr")
    assert found.metadata == {"meta.day": "2024-01-02", "text": "no"}


def test_web_archives(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc.gz").write_bytes(
        in_members(
            [
                record(b"", kind="warcinfo"),
                record(PAGE.encode(), url="http://a.example/hafen", WARC_Record_ID="<urn:uuid:1>"),
                record(b"moved", "HTTP/1.1 301 Moved\r\nContent-Type: text/html", WARC_Record_ID="<urn:uuid:2>"),
                record(
                    gzip.compress(PAGE.encode("latin-1")),
                    "Content-Type: text/html; charset=iso-8859-1\r\nContent-Encoding: gzip",
                ),
                record(b"\x89PNG", "Content-Type: image/png"),
                record("schöner Text".encode(), "Content-Type: text/plain", WARC_Truncated="length"),
            ]
        )
    )
    found, damage = skipping(tmp_path / "crawl.warc.gz")
    assert not damage.counts and damage.skipped == {"HTTP status": 1, "no text": 1}
    first, second, third = found
    assert (first.id, first.url, first.language) == ("urn:uuid:1", "http://a.example/hafen", "de")
    assert first.metadata == {"date": "2024-01-02T03:04:05Z"}
    assert first.text.startswith("Das Schiff lag") and "Start" not in first.text and second.text == first.text
    assert (third.text, third.metadata["truncated"]) == ("schöner Text", "length")
    assert read(tmp_path / "crawl.warc.gz") == found


@pytest.mark.parametrize("end", COMPRESS)
def test_extracted_texts_of_web_archives(end: str, tmp_path: Path) -> None:
    said = {"WARC_Identified_Content_Language": "deu,eng", "WARC_Record_ID": "<urn:uuid:9>"}
    raw = record(b"Das Schiff.\n", kind="conversion", url="http://a/", **said) + record(b"two", kind="conversion")
    (tmp_path / f"a.warc.wet{end}").write_bytes(COMPRESS[end](raw))
    first, second = read(tmp_path / f"a.warc.wet{end}")
    assert (first.id, first.text, first.url, first.language) == ("urn:uuid:9", "Das Schiff.\n", "http://a/", "de")
    assert second.text == "two"


CODE = {
    "repo/LICENSE": MIT.encode(),
    "repo/src/a.py": b"print(1)\n",
    "repo/vendor/x/COPYING": b"All rights reserved by somebody.\n",
    "repo/vendor/x/deep/b.c": b"int main;\n",
    "repo/vendor/x/tagged.c": b"// SPDX-License-Identifier: BSD-2-Clause\nint x;\n",
    "repo/logo.png": b"\x89PNG\0\0",
    "repo/latin.txt": b"\xe9t\xe9",
    f"repo/{'long/' * 40}name.py": b"deep = 1\n",
}
OF_CODE = {
    "repo/LICENSE": "MIT",
    "repo/src/a.py": "MIT",
    "repo/vendor/x/COPYING": "NOASSERTION",
    "repo/vendor/x/deep/b.c": "NOASSERTION",
    "repo/vendor/x/tagged.c": "BSD-2-Clause",
    f"repo/{'long/' * 40}name.py": "MIT",
}


@pytest.mark.parametrize("end", COMPRESS)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_archives_of_code(end: str, form: int, tmp_path: Path) -> None:
    (tmp_path / f"repo.tar{end}").write_bytes(COMPRESS[end](tar(CODE, form=form)))
    found, damage = skipping(tmp_path / f"repo.tar{end}")
    assert {d.metadata["path"]: d.license for d in found} == OF_CODE
    assert {d.id: d.text for d in found}["web-repo/src/a.py"] == "print(1)\n"
    assert {d.text_type for d in found} == {"code"}
    assert damage.skipped == {"binary file": 1, "not UTF-8": 1} and not damage.counts
    assert {d.metadata["path"]: d.metadata["license_file"] for d in found}["repo/vendor/x/deep/b.c"] == "repo/vendor/x/COPYING"


@pytest.mark.parametrize("how", ["format", "git"])
def test_folders_of_code_are_read_as_their_archives(how: str, tmp_path: Path) -> None:
    for name, content in CODE.items():
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_bytes(content)
    (tmp_path / "all/repo/fixture.tar").write_bytes(tar({"a": b"of a test"}))
    (tmp_path / "all/.git/objects").mkdir(parents=True)
    (tmp_path / "all/.git/objects/pack.py").write_text("no")
    (tmp_path / "all/repo/alias.py").symlink_to("src/a.py")
    found, damage = skipping(tmp_path / "all", **({"format": "code"} if how == "format" else {}))
    assert {d.metadata["path"]: d.license for d in found} == OF_CODE
    assert {d.id for d in found} >= {"web-repo/src/a.py"} and {d.text_type for d in found} == {"code"}
    assert damage.skipped == {"binary file": 2, "not UTF-8": 1} and not damage.counts


def test_two_licences_to_choose_from_and_two_that_hold(tmp_path: Path) -> None:
    gpl = b"GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n"
    lesser = b"GNU LESSER GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n"
    apache = b"Apache License\nVersion 2.0, January 2004\n"
    files = {
        "a/LICENSE-MIT": MIT.encode(),
        "a/LICENSE-APACHE": apache,
        "a/x": b"x",
        "b/COPYING": gpl,
        "b/COPYING.LESSER": lesser,
    }
    (tmp_path / "r.tgz").write_bytes(gzip.compress(tar({**files, "b/y": b"y"})))
    licenses = {d.metadata["path"]: d.license for d in read(tmp_path / "r.tgz")}
    assert licenses["a/x"] == "Apache-2.0 OR MIT" and licenses["b/y"] == "GPL-3.0-only AND LGPL-3.0-only"


def test_a_folder_of_archives_is_one_of_repositories(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.tar").write_bytes(tar({"a.py": name.encode()}))
    assert [d.id for d in read(tmp_path, format="code")] == ["web-one.tar-a.py", "web-two.tar-a.py"]
    assert read(tmp_path) == read(tmp_path, format="code")


def test_what_an_archive_has_beside_files_is_skipped(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("./empty.py"))
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    (found,), damage = skipping(tmp_path / "a.tar")
    assert (found.id, found.text) == ("web-empty.py", "") and damage.skipped == {"link": 1, "device": 1}


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.txt").write_bytes(b"\xef\xbb\xbfzwei\n")
    (tmp_path / "a.md.gz").write_bytes(gzip.compress(b"one"))
    (tmp_path / ".hidden.txt").write_text("no")
    assert [(d.id, d.text) for d in read(tmp_path)] == [("web-a.md.gz", "one"), ("web-in/b.txt", "zwei\n")]
    (found,) = read(tmp_path / "in/b.txt")
    assert (found.id, found.text, found.metadata) == ("web-1", "zwei\n", {"path": "b.txt"})
    (tmp_path / "odd").write_text("neither named nor JSON")
    assert read(tmp_path / "odd")[0].text == "neither named nor JSON"


def test_a_data_set_of_the_hub_is_read_by_its_training_split(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    data = tmp_path / "snapshots/1a2b/data"
    data.mkdir(parents=True)
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        parquet.write_table(pyarrow.Table.from_pylist([{"text": name}]), tmp_path / "blobs" / str(number))
        (data / f"{name}.parquet").symlink_to(f"../../../blobs/{number}")
    (tmp_path / "snapshots/1a2b/README.md").write_text("A data set.")
    (tmp_path / "snapshots/1a2b/dataset_infos.json").write_text("{}")
    found = read(tmp_path / "snapshots/1a2b")
    assert [d.text for d in found] == ["train-00000-of-00002", "train-00001-of-00002"]
    assert found[0].id == "web-data/train-00000-of-00002.parquet-1"
    assert [d.text for d in read(tmp_path / "snapshots/1a2b", split="test")] == ["test-00000-of-00001"]


def test_inputs_are_in_the_order_of_their_names_and_known_by_content(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/10.jsonl", "a.jsonl.gz"):
        jsonl(tmp_path / "data" / name, [json.dumps({"text": name})])
    found = inputs(source(tmp_path / "data"))
    assert [one.name for one in found] == ["a.jsonl.gz", "b/10.jsonl", "b/2.jsonl"]
    assert all(one.size == Path(one.where).stat().st_size and len(one.digest()) == 64 for one in found)
    assert [d.id for d in read(tmp_path / "data")] == ["web-a.jsonl.gz-1", "web-b/10.jsonl-1", "web-b/2.jsonl-1"]
    assert [d.id for d in read(tmp_path / "data/*/*.jsonl")] == ["web-b/10.jsonl-1", "web-b/2.jsonl-1"]
    before = fingerprint(source(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "moved")
    assert fingerprint(source(tmp_path / "moved")) == before
    jsonl(tmp_path / "moved/b/2.jsonl", ['{"text": "c"}'])
    assert fingerprint(source(tmp_path / "moved")) != before
    jsonl(tmp_path / "[1] a.jsonl", ['{"text": "brackets"}'])
    assert read(tmp_path / "[1] a.jsonl")[0].id == "web-1"


def test_rows_that_know_their_language_and_licence_reach_the_filters(tmp_path: Path) -> None:
    """And what was passed over stands in the funnel."""
    english = (
        "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and rain. "
    )
    rows = [json.dumps({"text": f"{i} {english * 3}"}) for i in range(60)]
    path = jsonl(tmp_path / "rows.jsonl.gz", [*rows, "{no json", '{"no": "text"}', "{no json either"])
    one = source(path, damaged="skip")
    data = Data(sources={"web": one}, mixes={"m": Mix(weights={"web": 1.0})})
    funnel = prepare_corpus(data, {}, lambda name, source: [], tmp_path / "out", tmp_path / "scratch")["web"]
    assert funnel.read == 60
    said = json.loads((tmp_path / "out/funnel.json").read_text())["web"]["passed_over"]
    assert said["damaged"] == {"no text": 1, "not JSON": 2}
    assert said["first"]["not JSON"].startswith(f"{path}:61: this line is not JSON")
    both = Damage()
    both.add(funnel.damage)
    both.add(funnel.damage)
    assert both.counts["not JSON"] == 4 and both.first == funnel.damage.first
