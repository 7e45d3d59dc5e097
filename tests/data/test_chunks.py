"""Long documents: cut into several where a recipe says so, and whole where it says 0, as the reports have them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from lehr.config.data import Data
from lehr.config.mix import Mix
from lehr.config.sources import FilesSource
from lehr.data.document import Document, chunk
from lehr.data.preparation.corpus import prepare_corpus

SENTENCE = "The {}th of the men had been in the harbour for a week, and that is what they have to say of it. "


def _kept(tmp_path: Path, characters: int) -> list[tuple[str, int]]:
    """Ids and lengths of what is left of one long document among short ones."""
    rows = [{"id": f"short{i}", "text": SENTENCE.format(i) * 2 + f"So much of {i}."} for i in range(40)]
    rows.append({"id": "long", "text": "".join(SENTENCE.format(i) for i in range(100, 300))})
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = Data(
        sources={"web": FilesSource(kind="jsonl", path=str(path), license="CC0-1.0")},
        chunk_characters=characters,
        mixes={"m": Mix(weights={"web": 1.0})},
    )
    prepare_corpus(data, {}, lambda name, source: [], tmp_path / "out", tmp_path / "scratch")
    files = [tmp_path / "out" / name for name in ("documents/web.jsonl.gz", "dev.jsonl.gz", "held_out.jsonl.gz")]
    found = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    return sorted((row["id"], len(row["text"])) for row in found if row["id"].startswith("long"))


def test_with_0_no_document_is_cut(tmp_path: Path) -> None:
    document = Document("d", "s", "First paragraph here.\n\n" * 600)
    assert list(chunk(document, 0)) == [document]
    whole = sum(len(SENTENCE.format(i)) for i in range(100, 300))
    assert _kept(tmp_path, 0) == [("long", whole)]
    pieces = _kept(tmp_path, 6000)
    assert [name for name, _ in pieces] == ["long#0", "long#1", "long#2", "long#3"]
    assert sum(length for _, length in pieces) == whole and max(length for _, length in pieces) <= 6000
