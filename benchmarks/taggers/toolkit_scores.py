"""What the transforms of IBM's data-prep-toolkit 1.1.8 say of documents: `python toolkit_scores.py < documents.jsonl >
scores.jsonl`, in an environment of the toolkit's own. Imports nothing of Lehr.

Its two annotators ask NLTK for words, whose model is fetched from a hub: they are given what blanks separate. The code
transform asks a hub for a tokenizer, for a score that no rule of Granite's uses: its other functions are called one by one.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import nltk
import pyarrow as pa

nltk.data.find = nltk.download = lambda *_: None
nltk.word_tokenize = str.split

with contextlib.redirect_stdout(sys.stderr):
    from dpk_code_quality import transform as code
    from dpk_doc_quality.transform import DocQualityTransform
    from dpk_fineweb_quality_annotator.transform import FineWebQualityAnnotatorTransform
    from dpk_gopher_repetition_annotator.transform import GopherRepetitionAnnotatorTransform

_BATCH = 200


def scores(rows: list[dict[str, Any]]) -> Iterator[dict[str, float]]:
    table = pa.table({"text": [row["text"] for row in rows], "contents": [row["text"] for row in rows]})
    quality = DocQualityTransform({})
    quality.re_pattern = None  # the list of bad words, which is a file of the user's
    fineweb = FineWebQualityAnnotatorTransform(
        {"dup_line_char_frac_cname": "fineweb_dup_line_char_frac"}
    )  # both have such a column
    for transform in (quality, GopherRepetitionAnnotatorTransform({}), fineweb):
        [table], _ = transform.transform(table)
    names = [name for name in table.column_names if name not in ("text", "contents", "docq_contain_bad_word")]
    for row, found in zip(rows, table.select(names).to_pylist(), strict=True):
        there = {rule: float(found[f"docq_{rule}_ratio"] > 0) for rule in ("curly_bracket", "lorem_ipsum")}
        yield {name: float(value) for name, value in found.items()} | there | (of_code(row) if row["path"] else {})


def of_code(row: dict[str, Any]) -> dict[str, float]:
    text, lines = row["text"], code.calculate_line_stats(row["text"])
    top, two = code.top_most_frequent_word_percent(text)
    language = {"html": "html"}.get(row["path"].rpartition(".")[2], "python")
    return {
        "xml": float(code.is_xml(text, language)),
        "html": float(code.is_html(text, language)),
        "alpha_percent": code.alphabetic_percent(text),
        "top_word_percent": top,
        "top_two_words_percent": two,
        "line_mean": float(lines["line_mean"]),
        "line_max": float(lines["line_max"]),
    }


if __name__ == "__main__":
    from dpk_doc_quality import transform as doc_quality

    doc_quality.c4_contains_ldnoobw_words = lambda text, pattern: False
    rows = [json.loads(line) for line in sys.stdin]
    for start in range(0, len(rows), _BATCH):
        for found in scores(rows[start : start + _BATCH]):
            print(json.dumps(found))
