"""Filters of code."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lehr.config.filters.base import CODE, Count, FilterConfig, Ratio, Share, ordered
from lehr.config.sources import TextType


class GraniteCodeFilter(FilterConfig):
    """Granite 3.0 section 3.1: the share of letters, files of XML, how much of an HTML file is visible text, the size of JSON
    and YAML files. The mean and the longest line are not in the report; IBM's data-prep-toolkit measures them.

    What a file is, is told by the language that its metadata gives (`language_key`), else by the ending of its path
    (`path_key`), its address or its id. Scores: `granite_code.letters`, `.html_text`, `.html_text_characters`,
    `.data_characters`, `.mean_line`, `.longest_line`.
    """

    kind: Literal["granite_code"] = "granite_code"
    text_types: list[TextType] = CODE
    min_letters: Share = 0.25
    xml_within: Count = 100  # characters, in which `<?xml version=` must not stand
    min_html_text: Share = 0.2
    min_html_text_characters: Count = 100
    min_data_characters: Count = 50  # of JSON and YAML
    max_data_characters: Count = 5000
    max_mean_line: Ratio = None
    max_longest_line: Count = None
    language_key: str = "language"
    path_key: str = "path"

    @model_validator(mode="after")
    def _range(self) -> GraniteCodeFilter:
        ordered(self, "min_data_characters", "max_data_characters")
        return self


class StarcoderFilter(FilterConfig):
    """OLMo 2 section 2.4.1: code of repositories with enough stars, and not of a few words over and over. `stars_key` names the
    key of a document's metadata; a document whose stars are not given is dropped, or not asked for them with `missing: keep`.
    Scores: `starcoder.stars`, `.top_word`, `.top_two_words`."""

    kind: Literal["starcoder"] = "starcoder"
    text_types: list[TextType] = CODE
    min_stars: Count = 2
    stars_key: str = "max_stars_count"  # as StarCoder's data set calls it
    missing: Literal["drop", "keep"] = "drop"
    max_top_word: Share = 0.3  # of all words
    max_top_two_words: Share = 0.5
