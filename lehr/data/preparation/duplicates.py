"""Copies of documents, and repeated paragraphs, over all sources."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lehr.config.sources import SyntheticSource
from lehr.data.dedup import REASONS, Corpora, Paragraphs
from lehr.data.dedup.paragraphs import REASON
from lehr.data.joins.choice import engine
from lehr.data.preparation.compared import Compared
from lehr.data.preparation.rows import Rows, RowsWriter
from lehr.data.preparation.splitting import GONE

WITHOUT_PARAGRAPHS = "rest"  # of a part: its rows without repeated paragraphs


def deduplicate(corpus: Compared, scratch: Path, signatures: Path) -> None:
    """Drop copies, and take repeated paragraphs out of what stays. `scratch` takes the joins' files; the signatures of what
    stays go to `signatures` where the recipe wants them. Raises UserError for earlier corpora that cannot be compared."""
    config = corpus.config.deduplication
    corpora = Corpora.open(config, [part.file("sig") for part in corpus.parts])

    def texts(numbers: Sequence[int]) -> list[str]:
        return list(corpus.texts(numbers))

    shutil.rmtree(scratch, ignore_errors=True)  # of an attempt that was killed
    scratch.mkdir()
    with engine(config, scratch) as joins:
        dropped = corpora.duplicates(joins, texts)
    shutil.rmtree(scratch)
    for number, reason in enumerate(REASONS):
        if len(mine := dropped["number"][dropped["reason"] == number]):
            corpus.drop(mine, reason)
    if config.save:
        corpora.save(signatures, dropped, texts)
    if config.paragraphs:
        _without_paragraphs(corpus, Paragraphs(config.paragraphs))


def _without_paragraphs(corpus: Compared, paragraphs: Paragraphs) -> None:
    """In order of reading, in this process: what is repeated depends on all that came before."""
    for part, numbers in corpus.spans():
        generated = isinstance(part.source, SyntheticSource)
        fates = corpus.fates["split"][numbers]
        with RowsWriter(part.file(WITHOUT_PARAGRAPHS)) as out:
            for row, (fate, found) in enumerate(zip(fates.tolist(), Rows(part.file(corpus.rows)), strict=True)):
                if fate != GONE and not generated:
                    text, _ = paragraphs.pass_on(found["text"])
                    if text is None:
                        corpus.drop([numbers.start + row], REASON)
                    else:
                        found["text"] = text
                        corpus.keys["characters"][numbers.start + row] = len(text)
                out.add(found)
    corpus.rows = WITHOUT_PARAGRAPHS
