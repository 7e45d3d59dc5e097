"""Reading, filtering, deduplication, decontamination: every document is kept or dropped for a reason."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from lehr.config.data import Data
from lehr.config.decontamination import Decontamination
from lehr.config.filters.text import LanguageFilter, WordsFilter
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource, SyntheticSource
from lehr.data.dedup import Deduplicator
from lehr.data.document import Document, chunk, read_jsonl
from lehr.data.lexicon import Lexicon
from lehr.data.lines import LONGEST
from lehr.data.preparation.corpus import Watch, prepare_corpus
from lehr.data.repeats import most_repeats, repeats
from lehr.evals.corpus import cut, rows_of
from lehr.runtime.errors import UserError

ENGLISH = "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and rain. "
LATIN = "Arma virumque cano Troiae qui primus ab oris et quae quod sed nec te atque haec nunc hic sunt iam cum ad ex "


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "a"}\n{"text": \n', ":2: this line is not JSON"),
        (b'{"text": "a"}\n\xff\xfe\n', ":2: invalid UTF-8"),
        (b'{"id": "1"}\n', ":1: no `text`"),
        (b'["text"]\n', ":1: no `text`"),
        (b'{"text": "\\ud800"}\n', ":1: lone surrogates in `text`"),
        (b'{"text": "a", "id": "\\ud800"}\n', ":1: lone surrogates in `id`"),
        (b"[" * 100_000 + b"\n", ":1: this line is not JSON"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", ":1: this line is not JSON"),
        (b"", "source 'web' is empty"),
        (b"\n\n", "source 'web' is empty"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "web.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_jsonl(path, "web"))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_rows_without_an_id_are_named_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "web.jsonl"
    path.write_text('{"text": "a"}\n\n{"id": null, "text": "b"}\n{"id": 0, "text": "c"}\n', encoding="utf-8")
    assert [d.id for d in read_jsonl(path, "web")] == ["web-1", "web-3", "0"]


def test_a_truncated_gzip_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "web.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "' + b"abc " * 5000 + b'"}\n')[:-20])
    with pytest.raises(UserError, match="damaged gzip"):
        list(read_jsonl(path, "web"))
    with pytest.raises(UserError, match="no such data file"):
        list(read_jsonl(tmp_path / "none.jsonl", "web"))


ROWS = b'{"id": "a", "text": "one"}\n\n{"id": "b", "text": "t\xc3\xbco"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + ROWS),
        ("WEB.JSONL.GZ", gzip.compress(b"\xef\xbb\xbf" + ROWS, mtime=0)),
        ("unnamed", gzip.compress(ROWS[:28], mtime=0) + gzip.compress(ROWS[28:], mtime=0)),
        ("web.jsonl.bz2", bz2.compress(ROWS)),
        ("web.jsonl.xz", lzma.compress(ROWS)),
        ("web.jsonl.zst", zstandard.compress(ROWS[:28]) + b"\x50\x2a\x4d\x18\x02\0\0\0no" + zstandard.compress(ROWS[28:])),
    ],
)
def test_a_byte_order_mark_and_compressions_are_read(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert [(d.id, d.text) for d in read_jsonl(tmp_path / name, "web")] == [("a", "one"), ("b", "tüo")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("web.jsonl.zst", zstandard.compress(ROWS)[:-5], "damaged Zstandard"),
        ("web.jsonl.zst", b"\x28\xb5\x2f\xfd\x04\x00", "damaged Zstandard"),
        ("web.jsonl.zst", ROWS, "damaged Zstandard"),
        ("web.jsonl", b"PK\x03\x04....", "a zip file"),
        ("web.jsonl", b"PAR1....", "a Parquet file"),
        ("web.jsonl.bz2", bz2.compress(ROWS)[:-9], "damaged bzip2"),
        ("web.jsonl.bz2", ROWS, "damaged bzip2"),
        ("web.jsonl.xz", lzma.compress(ROWS)[:-9], "damaged xz"),
        ("web.jsonl.gz", ROWS, "damaged gzip"),
        ("web.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "this is a Git LFS pointer"),
        ("web.jsonl", b'{"text": "a"}\n' + b" " * (LONGEST + 1), "web.jsonl:2: a line of more than 64 MiB"),
    ],
)
def test_what_is_no_json_lines_is_called_what_it_is(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_jsonl(tmp_path / name, "web"))
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_compressed_line_without_end_takes_bounded_memory(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "web.jsonl.gz").write_bytes(compress(b'{"text": "' + b"a" * (48 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="a line of more than 1 MiB"):
            list(read_jsonl(tmp_path / "web.jsonl.gz", "web", 1 << 20))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # the dictionary of xz has 8 MiB
    finally:
        tracemalloc.stop()


def test_documents_with_empty_ids_have_families_of_their_own(tmp_path: Path) -> None:
    """Chunks of one document stay in one split, and two documents have not the same parent."""
    path = tmp_path / "web.jsonl"
    rows = [{"id": name, "text": "First paragraph here.\n\n" * 40} for name in ("", " ", "\t")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    documents = list(read_jsonl(path, "web"))
    assert [d.id for d in documents] == ["web-1", "web-2", "web-3"]
    assert [{c.family for c in chunk(d, 200)} for d in documents] == [{"web-1"}, {"web-2"}, {"web-3"}]


def test_chunks_make_up_the_document_and_remember_their_parent() -> None:
    document = Document("d", "s", "First paragraph here.\n\n" * 40)
    chunks = list(chunk(document, 200))
    assert "".join(c.text for c in chunks) == document.text
    assert all(len(c.text) <= 200 and c.family == "d" for c in chunks)
    assert all(c.text.endswith("\n\n") for c in chunks)


@pytest.mark.parametrize("period", [1, 2, 13])
def test_repeats_at_their_exact_edge(period: int) -> None:
    """OLMo 2 section 3.1: 32 full repeats are dropped, 31 and a part are kept, a period of 14 is never looked for."""
    gram = [f"w{i}" for i in range(period)]
    numbers = Lexicon().numbers
    assert repeats(numbers(["a", *gram * 32, "b"]), 13, 32)
    assert not repeats(numbers(["a", *(gram * 32)[: 32 * period - 1], "b"]), 13, 32)
    assert not repeats(numbers([f"w{i}" for i in range(14)] * 40), 13, 32)
    assert most_repeats(numbers(["a", *gram * 32, "b"]), 13) == 32
    assert most_repeats(numbers(["a", *(gram * 32)[: 32 * period - 1], "b"]), 13) == 31
    assert most_repeats(numbers([f"w{i}" for i in range(14)] * 40), 13) == 1


def test_exact_duplicates_keep_the_first() -> None:
    seen = Deduplicator()
    assert seen.twin("a", "The  Same text") is None
    assert seen.twin("b", "the same\ntext") == "a"
    assert seen.twin("c", "another text") is None
    assert seen.twin("a", "the same text") == "a"  # the very row once more, its id too


def _corpus(tmp_path: Path) -> Data:
    rows = [{"id": f"d{i}", "text": f"Document number {i}. " + ENGLISH * 2 + f"It was the {i}th of them."} for i in range(200)]
    rows += [{"id": "twin", "text": rows[0]["text"]}, {"id": "short", "text": "Too short."}, {"id": "latin", "text": LATIN * 3}]
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    source = FilesSource(kind="jsonl", path=str(path), license="CC0-1.0")
    return Data(
        sources={"web": source},
        filters={"words": WordsFilter(), "language": LanguageFilter()},
        decontamination=Decontamination(boilerplate_documents=1),
        mixes={"m": Mix(weights={"web": 1.0})},
        dev_share=0.1,
        held_out_share=0.1,
    )


def _nothing(name: str, source: SyntheticSource) -> list[Document]:
    return []


def test_ids_that_stand_twice_are_counted(tmp_path: Path) -> None:
    config, notes = _corpus(tmp_path), list[str]()
    path = tmp_path / "web.jsonl"
    path.write_text(path.read_text().replace('"d7"', '"d5"').replace('"d6"', '"d5"'))
    prepare_corpus(config, {}, _nothing, tmp_path / "out", tmp_path / "scratch", Watch(notes.append))
    assert next(note for note in notes if "repeat an earlier" in note).startswith(
        "web: 2 documents repeat an earlier document's id"
    )


def test_kept_and_dropped_make_up_what_was_read(tmp_path: Path) -> None:
    funnel = prepare_corpus(_corpus(tmp_path), {}, _nothing, tmp_path / "out", tmp_path / "scratch")["web"]
    dropped = [
        json.loads(line) for line in gzip.decompress((tmp_path / "out" / "dropped.jsonl.gz").read_bytes()).decode().splitlines()
    ]
    assert funnel.read == 203 == funnel.kept + len(dropped)
    reasons = {row["id"]: row["reason"] for row in dropped}
    assert reasons["twin"] == "exact duplicate"
    assert reasons["short"] == "too few words"
    assert reasons["latin"] == "language la"
    assert min(funnel.train, funnel.dev, funnel.held_out) > 5
    notes: list[str] = []
    again = prepare_corpus(_corpus(tmp_path), {}, _nothing, tmp_path / "again", tmp_path / "scratch", Watch(notes.append))[
        "web"
    ]
    assert not any("repeat an earlier" in note for note in notes)
    assert again == funnel
    for name in ("documents/web.jsonl.gz", "held_out.jsonl.gz", "dropped.jsonl.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_document_begins_with_its_words(tmp_path: Path) -> None:
    """Empty lines before them are dropped before anything is counted, indentation is kept; so is what white space of another
    kind leaves: a score's beginning of a text has words."""
    config = _corpus(tmp_path)
    config.dev_share, config.held_out_share = 0.0, 0.6
    path = tmp_path / "web.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    begins = ("\n" * 1600, " \t\r\n" * 400 + "\u3000\n    ", "\r" * 40, " " * 1600, "")
    for number, row in enumerate(rows):
        row["text"] = begins[number % 5] + row["text"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare_corpus(config, {}, _nothing, tmp_path / "out", tmp_path / "scratch")
    texts = [row["text"] for row in rows_of(tmp_path / "out/held_out.jsonl.gz")]
    starts = {text[: text.index("Document")] for text in texts if "Document" in text}
    assert starts == {"", "    ", "\r" * 40, " " * 1600}
    assert all(cut(text, 1500).split()[:2] == text.split()[:2] for text in texts)


@pytest.mark.parametrize(
    ("text", "characters", "first"),
    [
        ("\n" * 1600 + "some words here", 10, "some"),
        ("\n" * 1600 + "some words here", 15, "some words here"),
        (" " * 20, 10, ""),
        ("  short", 10, "  short"),
        ("unbroken" * 9, 16, "unbroken" * 2),
    ],
)
def test_the_beginning_of_a_text_is_its_words(text: str, characters: int, first: str) -> None:
    assert cut(text, characters) == first


def test_a_leak_of_an_evaluation_text_is_dropped(tmp_path: Path) -> None:
    leaked = "Document number 7. The ship was in the harbour for"
    prepare_corpus(_corpus(tmp_path), {"quiz": [leaked]}, _nothing, tmp_path / "out", tmp_path / "scratch")
    dropped = [
        json.loads(line) for line in gzip.decompress((tmp_path / "out" / "dropped.jsonl.gz").read_bytes()).decode().splitlines()
    ]
    assert "d7" in {r["id"] for r in dropped if r["reason"] == "contaminates quiz"}


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    data = _corpus(tmp_path)
    (tmp_path / "web.jsonl").write_text('{"text": "short"}\n')
    with pytest.raises(UserError, match="nothing is left of source 'web'"):
        prepare_corpus(data, {}, _nothing, tmp_path / "out", tmp_path / "scratch")
