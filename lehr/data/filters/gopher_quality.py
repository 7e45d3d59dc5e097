"""Gopher's quality rules (Rae et al. 2021, appendix A1.1)."""

from __future__ import annotations

import numpy as np

from lehr.config.filters.quality import GopherQualityFilter
from lehr.config.filters.text import UNKNOWN
from lehr.data.document import Document
from lehr.data.filters.thresholds import verdict
from lehr.data.identify import identify
from lehr.data.text import Text, text_of
from lehr.data.verdict import Drop, Filter, Keep

_REASONS = {
    "min_words": "too few words",
    "max_words": "too many words",
    "mean_word_length": "mean word length",
    "symbols": "too many symbols",
    "bullet_lines": "too many bullet points",
    "ellipsis_lines": "too many lines end in an ellipsis",
    "alphabetic_words": "too few alphabetic words",
    "stop_words": "too few stop words",
}


def make(config: GopherQualityFilter) -> Filter:
    def gopher_quality(document: Document) -> Keep | Drop:
        text = text_of(document.text)
        if not len(text.ids):
            return Drop("too few words", {"gopher_quality.words": 0.0})
        scores = _of_words(text) | _of_lines(document.text)
        if config.min_stop_words:
            common = text.common(_language(document))
            if common is not None:
                scores["stop_words"] = common[1]
        return verdict(config, {name: scores[name] for name in _ORDER if name in scores}, _REASONS)

    return gopher_quality


# In the order of the paper, and of datatrove, so that reasons agree too.
_ORDER = (
    "words", "mean_word_length", "symbols", "bullet_lines", "ellipsis_lines", "alphabetic_words", "stop_words",
)  # fmt: skip


def _of_words(text: Text) -> dict[str, float]:
    ids, lexicon, raw = text.ids, text.lexicon, text.text
    words = ~lexicon.signs[ids]
    count = int(np.count_nonzero(words))
    symbols = max(raw.count("#"), raw.count("...") + raw.count("…"))
    scores = {
        "words": count - text.spaceless / 2,
        "symbols": symbols / text.count,
        "alphabetic_words": np.count_nonzero(lexicon.alphabetic[ids]) / len(ids),
    }
    if not text.mostly_spaceless:
        with_blanks = words & ~lexicon.spaceless[ids] if text.spaceless else words
        scores["mean_word_length"] = int(lexicon.letters[ids[with_blanks]].sum()) / max(1, int(np.count_nonzero(with_blanks)))
    return scores


def _of_lines(text: str) -> dict[str, float]:
    lines = text.splitlines()
    bullets = ellipses = 0
    if "•" in text or "-" in text:
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    if "..." in text or "…" in text:
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    return {"bullet_lines": bullets / len(lines), "ellipsis_lines": ellipses / len(lines)}


def _language(document: Document) -> str:
    """An ISO 639-1 code: what an earlier filter found or the data said (`en`, `en-US`), else the identified one."""
    said = document.language.split("-")[0].split("_")[0].lower()
    return said if said and said != UNKNOWN else identify(document.text)[0]
