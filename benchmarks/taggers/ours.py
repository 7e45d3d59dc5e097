"""Scores of our filters for documents, under the names that benchmarks/taggers/rules.py holds against a peer's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from lehr.config.filters import FilterConfig
from lehr.config.filters.pii import PiiFilter
from lehr.config.filters.quality import C4Filter, FineWebFilter, GopherQualityFilter, GopherRepetitionFilter
from lehr.config.filters.repositories import GraniteCodeFilter, StarcoderFilter
from lehr.config.filters.text import RepeatedNgramFilter
from lehr.data.document import Document
from lehr.data.filters import filters
from lehr.data.verdict import Drop, Filter

TEXT: dict[str, FilterConfig] = {
    "gopher_quality": GopherQualityFilter(text_types=[]),
    "gopher_repetition": GopherRepetitionFilter(text_types=[]),
    "fineweb": FineWebFilter(text_types=[]),
    "repeated_ngram": RepeatedNgramFilter(text_types=[], max_period=13, max_repeats=31),
    "pii": PiiFilter(text_types=[], max_found=None, mask=False),
}
CODE: dict[str, FilterConfig] = {"granite_code": GraniteCodeFilter(text_types=[]), "starcoder": StarcoderFilter(text_types=[])}
CONFIGS = TEXT | CODE
_NO_RULE: dict[str, Any] = {
    "terminal_marks": False, "min_line_words": None, "max_word_characters": None, "javascript": False, "policies": False,
    "citations": False, "lorem_ipsum": False, "curly_brackets": False, "min_sentences": None,
}  # fmt: skip
_C4_DROPS = ("curly_brackets", "lorem_ipsum")
_C4_LINES: dict[str, tuple[str, Any]] = {
    "unmarked_lines": ("terminal_marks", True),
    "short_lines": ("min_line_words", 3),
    "javascript": ("javascript", True),
    "no_rule": ("javascript", False),
}
_CODE_SCORES = ("letters", "html_text", "html_text_characters", "data_characters", "mean_line", "longest_line")


def scores(document: Document) -> dict[str, float]:
    """Of every filter, whatever another said; of C4's rules, and Granite's of XML and HTML, the verdict."""
    found: dict[str, float] = {}
    for name in CONFIGS if document.metadata else TEXT:
        found |= _made(name)(document).scores
    for rule in _C4_DROPS:
        found[f"c4.{rule}"] = isinstance(_c4(rule, True)(document), Drop)
    lines = len(document.text.splitlines())
    left = {name: round(_c4(*rule)(document).scores["c4.lines"] * lines) for name, rule in _C4_LINES.items()}
    found |= {f"c4.{name}": lines - left[name] for name in ("unmarked_lines", "short_lines")}  # empty ones too, as in dolma
    found["c4.javascript"] = left["javascript"] < left["no_rule"]
    if document.metadata:
        found["granite_code.xml"] = isinstance(_xml()(document), Drop)
    if "granite_code.html_text" in found:
        found["granite_code.html"] = _within("granite_code", found, "html_text") and _within(
            "granite_code", found, "html_text_characters"
        )
    return {name: float(value) for name, value in found.items()}


def _within(kind: str, found: Mapping[str, float], name: str) -> bool:
    low, high = bounds(f"{kind}.{name}", name)
    return low <= found[f"{kind}.{name}"] <= high


def bounds(score: str, name: str) -> tuple[float, float]:
    """The thresholds of a score, by default: `min_NAME` and `max_NAME` of its filter."""
    config = CONFIGS[score.partition(".")[0]]
    low, high = getattr(config, f"min_{name}", None), getattr(config, f"max_{name}", None)
    return (float("-inf") if low is None else low, float("inf") if high is None else high)


@cache
def _made(name: str) -> Filter:
    return filters({name: CONFIGS[name]})


@cache
def _c4(rule: str, value: Any) -> Filter:
    return filters({"c4": C4Filter(text_types=[], **(_NO_RULE | {rule: value}))})


@cache
def _xml() -> Filter:
    names = [f"{side}_{name}" for name in _CODE_SCORES for side in ("min", "max")]
    off = {name: None for name in names if name in GraniteCodeFilter.model_fields}
    return filters({"granite_code": GraniteCodeFilter(text_types=[], **off)})
