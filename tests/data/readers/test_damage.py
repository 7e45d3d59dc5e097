"""Damage stops the stage with one line that names it, or is counted, named and passed over; memory stays bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from lehr.cli.failure import report_failure
from lehr.data.readers import Damage, inputs
from lehr.data.readers import read as read_one
from lehr.data.readers.html import main_text
from lehr.runtime.errors import UserError
from tests.data.readers.made import PAGE, in_members, jsonl, read, record, skipping, source, tar

MIB = 1 << 20
GOOD = '{"text": "good"}'


def stopped(path: Path, capsys: pytest.CaptureFixture[str], **more: str) -> str:
    """The line that a user sees; the exit code is 2."""
    with pytest.raises(UserError) as caught:
        read(path, **more)
    capsys.readouterr()
    assert report_failure(caught.value) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{no json", "not JSON"),
        ('["text"]', "no text"),
        ('{"id": "1"}', "no text"),
        ('{"text": 5}', "no text"),
        ('{"text": "\\ud800"}', "not Unicode"),
        ('{"text": "a", "id": "\\ud800"}', "not Unicode"),
        ('{"text": "a", "url": "\\ud800"}', "not Unicode"),
        ('{"text": "\ud800"}', "not UTF-8"),
        ("[" * 100_000, "not JSON"),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_bad_row(row: str, reason: str, end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = jsonl(tmp_path / f"rows.jsonl{end}", [GOOD, row, GOOD, row, GOOD])
    assert stopped(path, capsys).startswith(f"error: {path}:2: ")
    found, damage = skipping(path)
    assert [d.id for d in found] == ["web-1", "web-3", "web-5"]
    assert damage.counts == {reason: 2} and damage.first[reason].startswith(f"{path}:2: ")


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("end", COMPRESS)
def test_a_truncated_file_is_lost_from_there_and_the_next_is_read(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(json.dumps({"text": f"{i} {os.urandom(300).hex()}"}) + "\n" for i in range(4000)).encode()
    (tmp_path / f"a.jsonl{end}").write_bytes(COMPRESS[end](rows)[:-1000])
    jsonl(tmp_path / "b.jsonl", [GOOD])
    assert stopped(tmp_path, capsys).startswith(f"error: {tmp_path}/a.jsonl{end}: damaged ")
    found, damage = skipping(tmp_path)
    assert 2000 < len(found) < 4001 and found[-1].text == "good" and damage.counts == {"damaged file": 1}


def test_archives_that_end_too_soon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At any byte: within a file, within a header, and where a header should be."""
    raw = tar({f"{i}.py": b"x = 1\n" for i in range(3)})
    cuts = {500: 0, 512: 0, 515: 0, 1024: 1, 1100: 1, 2048: 2}
    for cut, whole in cuts.items():
        (tmp_path / "a.tar").write_bytes(raw[:cut])
        assert "a.tar: truncated tar archive." in stopped(tmp_path / "a.tar", capsys, format="code")
        damage = Damage(stops=False)
        one = source(tmp_path / "a.tar", format="code", damaged="skip")
        left = list(read_one("web", one, inputs(one)[0], damage))
        assert len(left) == whole and damage.counts == {"damaged file": 1}, cut
    turned = bytearray(raw)
    turned[1024 + 3] ^= 1
    (tmp_path / "a.tar").write_bytes(turned)
    assert "no header of a tar archive where one should be" in stopped(tmp_path / "a.tar", capsys)
    assert len(skipping(tmp_path / "a.tar")[0]) == 1


@pytest.mark.parametrize("name", ["../out.py", "a/../../out.py", "/etc/out.py"])
def test_names_that_lead_out_of_an_archive(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar({"a.py": b"a", name: b"out", "b.py": b"b"})))
    assert f"a.tar.gz: {name!r}: the name of this member leads out" in stopped(tmp_path / "a.tar.gz", capsys)
    found, damage = skipping(tmp_path / "a.tar.gz")
    assert [d.text for d in found] == ["a", "b"] and damage.counts == {"name out of the archive": 1}


def test_headers_that_announce_gigabytes_are_not_read(tmp_path: Path) -> None:
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    (tmp_path / "a.tar").write_bytes(tar({"a.py": b"a"})[:1024] + long.tobuf(tarfile.GNU_FORMAT))
    found, damage = skipping(tmp_path / "a.tar")
    assert len(found) == 1 and damage.counts == {"decompression bomb": 1}
    large = tarfile.TarInfo("large.py")
    large.size = 65 * MIB
    raw = tar({"a.py": b"a"})[:1024] + large.tobuf() + bytes(large.size) + tar({"b.py": b"b"})
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(raw, 1))
    tracemalloc.start()
    try:
        found, damage = skipping(tmp_path / "a.tar.gz")
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
    assert [d.text for d in found] == ["a", "b"] and damage.counts == {"too long": 1}


@pytest.mark.parametrize("end", COMPRESS)
def test_a_line_that_unpacks_without_end_takes_bounded_memory(end: str, tmp_path: Path) -> None:
    bomb = COMPRESS[end](b"a" * MIB) * 66  # one stream after another
    (tmp_path / f"a.jsonl{end}").write_bytes(COMPRESS[end](b'{"text": "good"}\n') + bomb + COMPRESS[end](b"\n" + GOOD.encode()))
    tracemalloc.start()
    try:
        found, damage = skipping(tmp_path / f"a.jsonl{end}")
        assert tracemalloc.get_traced_memory()[1] < 3 * 64 * MIB
    finally:
        tracemalloc.stop()
    assert [d.id for d in found] == ["web-1", "web-3"] and damage.counts == {"too long": 1}


def test_links_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    jsonl(data / "in/a.jsonl", [GOOD])
    jsonl(tmp_path / "out/b.jsonl", ['{"text": "secret"}'])
    links = {
        "again.jsonl": ("in/a.jsonl", ""),  # read in its own place
        "around": ("..", "circle of links"),
        "circle.jsonl": ("circle.jsonl", "circle of links"),
        "broken.jsonl": ("nothing", "broken link"),
        "escape.jsonl": ("../out/b.jsonl", "link out of the folder"),
        "escape": ("../out", "link out of the folder"),
    }
    for name, (target, reason) in links.items():
        (data / name).symlink_to(target)
        if reason:
            line = stopped(data, capsys)
            assert str(data / name) in line, line
            found, damage = skipping(data)
            assert damage.counts == {reason: 1} and [d.text for d in found] == ["good"]
            assert [d.text for d in skipping(data, format="text")[0]] == [GOOD + "\n"]
            (data / name).unlink()
    for name, (target, _) in links.items():
        if not (data / name).is_symlink():
            (data / name).symlink_to(target)
    found, damage = skipping(data)
    assert [d.id for d in found] == ["web-in/a.jsonl-1"] and damage.counts.total() == 5
    assert [d.text for d in skipping(f"{data}/*.jsonl")[0]] == ["good"]


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    jsonl(tmp_path / "a.jsonl", [GOOD])
    assert len(read(tmp_path)) == 1


def _parquet(path: Path, texts: list[str], **more: int) -> bytes:
    parquet.write_table(pyarrow.Table.from_pylist([{"text": text} for text in texts]), path, **more)
    return path.read_bytes()


def test_damaged_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.parquet"
    raw = _parquet(path, [f"{i} {os.urandom(200).hex()}" for i in range(900)], row_group_size=300)
    path.write_bytes(raw[:-20])
    assert f"{path}: damaged Parquet file" in stopped(path, capsys)
    group = parquet.ParquetFile(io.BytesIO(raw)).metadata.row_group(1).column(0)
    turned = bytearray(raw)
    turned[group.dictionary_page_offset : group.dictionary_page_offset + 40] = bytes(40)
    path.write_bytes(turned)
    assert f"{path}: row group 2: damaged Parquet file" in stopped(path, capsys)
    found, damage = skipping(path)
    assert [d.id for d in found] == [f"web-{i}" for i in (*range(1, 301), *range(601, 901))]
    assert damage.counts == {"damaged file": 1}
    parquet.write_table(pyarrow.Table.from_pylist([{"body": "x"}]), path)
    assert f"{path}: no column `text`. Name the column" in stopped(path, capsys)
    column = pyarrow.array([b"ok", b"\xff", None], pyarrow.binary())
    parquet.write_table(pyarrow.table({"text": pyarrow.Array.from_buffers(pyarrow.string(), 3, column.buffers())}), path)
    assert f"{path}: row 2: invalid UTF-8" in stopped(path, capsys)
    assert skipping(path)[1].counts == {"not UTF-8": 1, "no text": 1}


def test_parquet_bombs_take_bounded_memory(tmp_path: Path) -> None:
    """One text of 48 MiB in a dictionary, which 2,000 rows name: 94 GiB as texts."""
    path = tmp_path / "a.parquet"
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, pyarrow.int32()), pyarrow.array(["a" * (48 * MIB)]))
    parquet.write_table(pyarrow.table({"text": texts}), path, dictionary_pagesize_limit=1 << 30, compression="none")
    one = source(path)
    documents = read_one("web", one, inputs(one)[0], Damage())
    before = pyarrow.total_allocated_bytes()
    for _ in range(3):
        assert len(next(documents).text) == 48 * MIB
    assert pyarrow.total_allocated_bytes() - before < 400 * MIB
    documents.close()  # type: ignore[attr-defined]
    parquet.write_table(pyarrow.table({"text": ["a" * (65 * MIB)]}), path, compression="zstd")
    assert skipping_all(path).counts == {"decompression bomb": 1}
    parquet.write_table(pyarrow.table({"text": ["a" * (65 * MIB)]}), path, compression="none", use_dictionary=False)
    assert skipping_all(path).counts == {"too long": 1}


def skipping_all(path: Path, **more: str) -> Damage:
    """What was passed over of a source of which nothing is left."""
    damage = Damage(stops=False)
    one = source(path, damaged="skip", **more)
    assert not list(read_one("web", one, inputs(one)[0], damage))
    return damage


@pytest.mark.parametrize("end", ["", ".gz"])
def test_web_archives_that_end_too_soon(end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record(PAGE.encode(), url=f"http://a/{i}") for i in range(3)]
    raw = in_members(records) if end else b"".join(records)
    path = tmp_path / f"a.warc{end}"
    for cut in (len(raw) - 60, len(raw) * 2 // 3 + 40):
        path.write_bytes(raw[:cut])
        assert str(path) in (line := stopped(path, capsys)) and ("truncated" in line or "damaged" in line)
        found, damage = skipping(path)
        assert [d.url for d in found] == ["http://a/0", "http://a/1"] and damage.counts.total() == 1
    path.write_bytes(gzip.compress(records[0] + b"garbage\r\n" + records[1]))
    assert "damaged WARC file" in stopped(path, capsys, format="warc")
    assert len(skipping(path, format="warc")[0]) == 1


def test_pages_that_cannot_be_decoded_or_would_take_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {
        "damaged record": record(PAGE.encode(), "Content-Type: text/html\r\nContent-Encoding: gzip"),
        "too long": record(gzip.compress(b"a" * (9 * MIB), 1), "Content-Type: text/html\r\nContent-Encoding: gzip"),
        "decompression bomb": record(b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000),
    }
    path = tmp_path / "a.warc.gz"
    for reason, one in bad.items():
        path.write_bytes(in_members([record(PAGE.encode()), one, record(PAGE.encode())]))
        assert f"{path}: record 2: " in stopped(path, capsys)
        found, damage = skipping(path)
        assert len(found) == 2 and damage.counts == {reason: 1}
    many = " ".join(f"a{i}=1" for i in range(100_000))
    with pytest.raises(UserError, match="2,000 attributes in a tag"):
        main_text(f"<p {many}>x", "here")
    flat = "<p>one<br>two<li>three" * 20_000
    assert main_text(flat, "here")[0]


@pytest.mark.parametrize(
    ("content", "format_", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "auto", "Git LFS pointer"),
        (b"PK\x03\x04....", "jsonl", "a zip file"),
        (b"PAR1....", "jsonl", "kind files, which reads Parquet"),
        (b"\xff\xfehello", "text", "invalid UTF-8 at byte 0"),
        (b"no tar", "code", ""),
        (b"hello", "warc", "damaged WARC file"),
        (b"hello", "parquet", "damaged Parquet file"),
    ],
)
def test_files_of_another_kind(
    content: bytes, format_: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(content)
    if says:
        assert says in stopped(tmp_path / "a", capsys, format=format_)
        assert skipping_all(tmp_path / "a", format=format_).counts.total() == 1
    else:
        assert len(read(tmp_path / "a", format=format_)) == 1  # a single file of code


def test_sources_without_files_and_without_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.jsonl: no such data file. Correct" in stopped(tmp_path / "none.jsonl", capsys)
    (tmp_path / "empty").mkdir()
    assert "empty: no data files. Name a file" in stopped(tmp_path / "empty", capsys)
    assert "*.jsonl: no data files" in stopped(tmp_path / "*.jsonl", capsys)
    jsonl(tmp_path / "a.jsonl", ["", ""])
    assert "source 'web' is empty" in stopped(tmp_path / "a.jsonl", capsys)
    jsonl(tmp_path / "a.jsonl", ["no"] * 3)
    with pytest.raises(UserError, match="source 'web' is empty: 3 damaged"):
        skipping(tmp_path / "a.jsonl")
