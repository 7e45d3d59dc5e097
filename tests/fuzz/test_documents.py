"""Any bytes as documents."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lehr.config.data import Data
from lehr.config.filters.quality import C4Filter, FineWebFilter, GopherQualityFilter, GopherRepetitionFilter
from lehr.config.filters.text import LanguageFilter, LineLengthFilter, RepeatedNgramFilter, WordsFilter
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.document import Document
from lehr.data.preparation.corpus import prepare_corpus
from lehr.data.readers import Damage, inputs, read
from lehr.evals.corpus import cut, rows_of
from lehr.runtime.errors import UserError
from tests.data.readers.made import PAGE, in_parquet, record, tar
from tests.fuzz.bounds import tried
from tests.fuzz.inputs import mutated_bytes, texts, values
from tests.fuzz.watch import RunLocation, bounded, place, refused_or_done, run

ENGLISH = "The ship was in the harbour for a week, and the men that had to work on it were tired of the cold wind and rain. "
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
COMPRESS[".zst"] = zstandard.compress
white = st.sampled_from(("", "\n" * 1600, " " * 1600, "\r\n \t" * 500, "\u3000", "\u2028" * 1600, "\x0b\x0c" * 900))
ends = white | texts | st.text(max_size=40)
prose = st.builds(lambda before, times, after: before + ENGLISH * times + after, white, st.integers(0, 40), ends)
rows = st.fixed_dictionaries({}, optional={"text": prose | prose | values, "id": texts | values, "source": values})
lines = st.lists(rows.map(json.dumps) | values.map(json.dumps) | prose, max_size=12).map(lambda found: "\n".join(found))
plain = lines.map(lambda text: text.encode("utf-8", "surrogatepass"))
files = st.tuples(plain | plain.flatmap(mutated_bytes) | st.binary(max_size=100), st.sampled_from(sorted(COMPRESS)))
packed = files.map(lambda made: (COMPRESS[made[1]](made[0]), made[1]))
damaged = packed.flatmap(lambda made: st.tuples(mutated_bytes(made[0]), st.sampled_from(sorted(COMPRESS))))


@tried(10)
@given(packed | damaged)
def test_any_file_begins_a_recipe_or_is_refused(file: tuple[bytes, str]) -> None:
    with place() as here:
        path = here.given / f"web.jsonl{file[1]}"
        path.write_bytes(file[0])
        run(here, "init", here.out / "mine", "--data", path)


@tried(15)
@given(packed | damaged, st.sampled_from((1, 5, 200)), st.sampled_from((40, 1500, 100_000)))
def test_any_file_is_prepared_or_refused(file: tuple[bytes, str], words: int, characters: int) -> None:
    """What is kept and what is dropped make up what was read, and every held-back text has a beginning."""
    with place() as here:
        path = here.given / f"web.jsonl{file[1]}"
        path.write_bytes(file[0])
        with bounded(here):
            refused_or_done(lambda: _prepared(here, path, words, characters))


raw_files = st.sampled_from(("jsonl", "parquet", "warc", "tar", "txt"))
contents = {
    "jsonl": b'{"id": "a", "text": "one", "meta": {"n": 1}}\n{"text": "two"}\n',
    "warc": record(PAGE.encode()) + record(b"plain", "Content-Type: text/plain") + record(b"wet", kind="conversion"),
    "tar": tar({"a/LICENSE": b"MIT", "a/b.py": b"x = 1\n", "a/" + "long/" * 40: b"", "a/" + "name" * 40: b"y"}),
    "txt": b"\xef\xbb\xbfa text",
    "parquet": in_parquet([{"id": "a", "text": "one", "meta": {"n": 1}}, {"id": None, "text": "two", "meta": None}]),
}


@tried(40)
@given(st.data(), raw_files, st.sampled_from(sorted(COMPRESS)))
def test_any_file_is_read_or_its_damage_counted(data: st.DataObject, kind: str, end: str) -> None:
    """In the form that its name tells, in any other that is asked for, and by its content; twice the same."""
    raw = COMPRESS[end](data.draw(mutated_bytes(contents[kind]) | st.just(contents[kind])))
    raw = data.draw(st.just(raw) | mutated_bytes(raw))
    asked = data.draw(st.sampled_from(("auto", "jsonl", "parquet", "warc", "text", "code")))
    with place() as here:
        path = here.given / f"a.{kind}{end}"
        path.write_bytes(raw)
        source = FilesSource(kind="files", path=str(path), license="x", format=asked, damaged="skip")
        with bounded(here):
            found = [
                (list(read("web", source, inputs(source)[0], damage)), damage) for damage in (Damage(False), Damage(False))
            ]
        assert found[0] == found[1]
        for document in found[0][0]:
            json.dumps(vars_of(document), allow_nan=False).encode()
            document.text.encode()
            assert document.id.strip() and document.source == "web"


def vars_of(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in document.__slots__}


def _prepared(here: RunLocation, path: Path, words: int, characters: int) -> None:
    filters = {
        "words": WordsFilter(at_least=words), "language": LanguageFilter(keep=["en", "unknown"]), "lines": LineLengthFilter(),
        "quality": GopherQualityFilter(min_words=words, min_stop_words=None), "repetition": GopherRepetitionFilter(),
        "c4": C4Filter(min_sentences=1, terminal_marks=False), "fineweb": FineWebFilter(), "repeated": RepeatedNgramFilter(),
    }  # fmt: skip
    source = FilesSource(kind="jsonl", path=str(path), license="CC0-1.0")
    mixes = {"all": Mix(weights={"web": 1.0})}
    config = Data(
        sources={"web": source}, chunk_characters=characters, filters=filters, mixes=mixes, dev_share=0.3, held_out_share=0.3
    )
    funnel = prepare_corpus(config, {"quiz": [ENGLISH]}, _nothing, here.out, here.out / "scratch")["web"]
    kept = {split: list(rows_of(here.out / f"{split}.jsonl.gz")) for split in ("dev", "held_out")}
    assert funnel.read == funnel.kept + funnel.dropped.total()
    for split, found in kept.items():
        assert len(found) == getattr(funnel, split)
        assert all(cut(row["text"], 20).strip() for row in found)
    families = [{row.get("parent") or row["id"] for row in found} for found in kept.values()]
    assert not {name.partition("#")[0] for name in families[0]} & {name.partition("#")[0] for name in families[1]}


def _nothing(name: str, source: Any) -> list[Any]:
    raise UserError("no generator is asked here")
