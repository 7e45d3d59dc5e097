"""Filters of running text, from the reports of others: Gopher, C4, FineWeb."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lehr.config.base import Positive
from lehr.config.filters.base import PROSE, Count, FilterConfig, Ratio, Share, ordered
from lehr.config.sources import TextType


class GopherQualityFilter(FilterConfig):
    """The quality rules of Gopher (Rae et al. 2021, appendix A1.1), with its thresholds.

    Words are what blanks separate. In scripts without blanks two characters count as one word, and no mean length is asked; a
    Korean syllable counts as two letters. Words of symbols alone count neither for `words` nor for the mean length.
    `symbols`: `#`, or ellipses, whichever are more, to each word. `stop_words`: different ones, of the document's own language
    (lehr/data/languages.py; of a language without a list none are asked).
    """

    kind: Literal["gopher_quality"] = "gopher_quality"
    text_types: list[TextType] = PROSE
    min_words: Count = 50
    max_words: Count = 100_000
    min_mean_word_length: Ratio = 3.0
    max_mean_word_length: Ratio = 10.0
    max_symbols: Ratio = 0.1
    max_bullet_lines: Share = 0.9
    max_ellipsis_lines: Share = 0.3
    min_alphabetic_words: Share = 0.8
    min_stop_words: Count = 2

    @model_validator(mode="after")
    def _ranges(self) -> GopherQualityFilter:
        ordered(self, "min_words", "max_words")
        ordered(self, "min_mean_word_length", "max_mean_word_length")
        return self


class GopherRepetitionFilter(FilterConfig):
    """The repetition rules of Gopher (Rae et al. 2021, Table A1), with its thresholds: shares of the lines, of the paragraphs,
    and of the document's characters.

    `top_2grams`: the characters of the commonest pair of words, in all its places. `duplicate_5grams`: the characters of all
    sequences of five words that occurred before, each word counted once. In scripts without blanks, sequences have twice as
    many characters.
    """

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    text_types: list[TextType] = PROSE
    max_duplicate_lines: Share = 0.3
    max_duplicate_paragraphs: Share = 0.3
    max_duplicate_line_characters: Share = 0.2
    max_duplicate_paragraph_characters: Share = 0.2
    max_top_2grams: Share = 0.2
    max_top_3grams: Share = 0.18
    max_top_4grams: Share = 0.16
    max_duplicate_5grams: Share = 0.15
    max_duplicate_6grams: Share = 0.14
    max_duplicate_7grams: Share = 0.13
    max_duplicate_8grams: Share = 0.12
    max_duplicate_9grams: Share = 0.11
    max_duplicate_10grams: Share = 0.1


class C4Filter(FilterConfig):
    """The rules of C4 (Raffel et al. 2020, section 2.2) and of its code, which take lines out of a text.

    Taken out: lines that do not end in a terminal mark (`. ! ? " '`, no ellipsis; or the marks of other scripts), that have too
    few words or one too long, that speak of Javascript, or of cookies and terms of use; and citations such as [1]. Documents
    with `lorem ipsum` or a curly bracket, and those with too few sentences left, are dropped. Scores: `c4.sentences`, and
    `c4.lines`, the share of lines that are left.
    """

    kind: Literal["c4"] = "c4"
    text_types: list[TextType] = ["prose"]
    terminal_marks: bool = True
    min_line_words: Count = 3
    max_word_characters: Count = 1000
    javascript: bool = True
    policies: bool = True
    citations: bool = True
    lorem_ipsum: bool = True
    curly_brackets: bool = True
    min_sentences: Count = 5


class FineWebFilter(FilterConfig):
    """The rules that FineWeb (Penedo et al. 2024, section 3.5) adds to C4's, and its number of lines to a word.

    `marked_lines`: the share of lines that end in a terminal mark; `short_lines`: of those with at most
    `short_line_characters`; `duplicate_line_characters`: characters of repeated lines; `newlines`: to a word.
    """

    kind: Literal["fineweb"] = "fineweb"
    text_types: list[TextType] = ["prose"]
    min_marked_lines: Share = 0.12
    max_short_lines: Share = 0.67
    short_line_characters: Positive = 30
    max_duplicate_line_characters: Share = 0.01
    max_newlines: Ratio = 0.3
