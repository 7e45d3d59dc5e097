"""What the recipes say about the filters of documents."""

from __future__ import annotations

from typing import Any

from tests.config.said import Rule, recipe


def rule(name: str, kind: str) -> Any:
    """A filter of a recipe."""
    return recipe(name).data.filters[kind]


def _data_characters() -> list[int]:
    found = rule("granite3-8b", "granite_code")
    return [found.min_data_characters, found.max_data_characters]


_GOPHER = {
    "max_bullet_ratio": "max_bullet_lines", "max_ellipsis_line_ratio": "max_ellipsis_lines",
    "max_symbol_word_ratio": "max_symbols",
}  # fmt: skip
_GRANITE_CODE = {
    "min_alpha": "min_letters", "xml_header_within": "xml_within", "html_visible_min_share": "min_html_text",
    "html_visible_min_chars": "min_html_text_characters",
}  # fmt: skip

FILTERS = [
    Rule(r"data\.olmo2_mix_1124\.starcoder_filters\.min_repo_stars", lambda: rule("olmo2-7b", "starcoder").min_stars),
    Rule(r"data\.olmo2_mix_1124\.starcoder_filters\.max_top1_word_share", lambda: rule("olmo2-7b", "starcoder").max_top_word),
    Rule(
        r"data\.olmo2_mix_1124\.starcoder_filters\.max_top2_word_share", lambda: rule("olmo2-7b", "starcoder").max_top_two_words
    ),
    Rule(r"data\.granite_data\.languages", lambda: rule("granite3-8b", "language").keep),
    Rule(
        r"data\.quality_filters\.stackexchange\.(min_question_votes|min_answer_votes|accepted_answer)",
        lambda key: getattr(rule("olmo2-7b", "stackexchange"), key),
    ),
    Rule(
        r"data\.granite_data\.filters\.gopher\.(\w+)", lambda key: getattr(rule("granite3-8b", "gopher_quality"), _GOPHER[key])
    ),
    Rule(r"data\.granite_data\.filters\.code\.json_yaml_chars", _data_characters),
    Rule(
        r"data\.granite_data\.filters\.code\.(min_alpha|xml_header_within|html_visible_min_share|html_visible_min_chars)",
        lambda key: getattr(rule("granite3-8b", "granite_code"), _GRANITE_CODE[key]),
    ),
    Rule(r"data\.repeated_ngram_filter\.max_period", lambda: rule("olmo2-7b", "repeated_ngram").max_period),
    Rule(r"data\.repeated_ngram_filter\.max_count", lambda: rule("olmo2-7b", "repeated_ngram").max_repeats + 1),
]
