"""Filters of any text: its length, its language, its repetitions."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from lehr.config.base import Positive
from lehr.config.filters.base import CODE, PROSE, Count, FilterConfig, Share, ordered
from lehr.config.sources import TextType

UNKNOWN = "unknown"  # the language of a text that is in none
# The labels of py3langid 0.4.0, mostly ISO 639-1, without its dialects that count as their language (lehr.data.languages).
_LABELS = (
    "ace af am an ar as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga gcf gcr gd "
    "gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg "
    "lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw "
    "ta te tg th tk tl tr tt ug uk ur uz vec vi vo wa xh yo zh zu"
)
LANGUAGES = tuple(_LABELS.split())


class WordsFilter(FilterConfig):
    """The number of words: what blanks separate; in scripts without blanks (Chinese, Japanese, Thai) two characters are one.
    Score: `words`."""

    kind: Literal["words"] = "words"
    at_least: Count = 30
    at_most: Count = None

    @model_validator(mode="after")
    def _range(self) -> WordsFilter:
        ordered(self, "at_least", "at_most")
        return self


class LanguageFilter(FilterConfig):
    """The language, by py3langid's naive Bayes model over 1,000 characters of the text, for any number of languages at once.

    A text is `unknown` if it has fewer than `min_letters` letters, if the model's confidence is below `min_confidence`, or if
    fewer than `min_common_words` of its words are among the commonest of the language, where those are known
    (lehr/data/languages.py): random letters have a script, but no such words. Scores: `language.confidence` and
    `language.common_words`.
    """

    kind: Literal["language"] = "language"
    text_types: list[TextType] = PROSE
    keep: list[str] = ["en"]  # ISO 639-1 codes, and `unknown`
    min_letters: Count = 20
    min_confidence: Share = 0.5
    min_common_words: Share = 0.05

    @field_validator("keep")
    @classmethod
    def _known(cls, keep: list[str]) -> list[str]:
        if not keep:
            raise ValueError("an empty list keeps nothing; name languages, or remove the filter")
        if strange := [language for language in keep if language not in (*LANGUAGES, UNKNOWN)]:
            known = "ISO 639-1 codes such as en, de, ja (lehr/config/filters/text.py lists them), and `unknown`"
            raise ValueError(f"{', '.join(strange)}: no language that can be recognised; those are {known}")
        return keep


class RepeatedNgramFilter(FilterConfig):
    """OLMo 2 section 3.1: a sequence of 1 to `max_period` words or tokens that stands more than `max_repeats` times in a row
    (the report drops it from 32 on). Score: `repeated_ngram.repeats`, the most full repeats of any.

    The report counts tokens; they take a `tokenizer`: a `tokenizer.json`, or the folder of one.
    """

    files: ClassVar[tuple[str, ...]] = ("tokenizer",)

    kind: Literal["repeated_ngram"] = "repeated_ngram"
    unit: Literal["words", "tokens"] = "words"
    tokenizer: str = ""
    max_period: Positive = 13
    max_repeats: Count = 31

    @model_validator(mode="after")
    def _tokens(self) -> RepeatedNgramFilter:
        if (self.unit == "tokens") != bool(self.tokenizer):
            raise ValueError(
                f"tokenizer={self.tokenizer!r} with unit={self.unit}; tokens need a tokenizer's path, and words need none"
            )
        return self


class LineLengthFilter(FilterConfig):
    """The longest line, in characters: generated and minified code has very long ones. Score: `line_length`."""

    kind: Literal["line_length"] = "line_length"
    text_types: list[TextType] = CODE
    at_most: Count = 1000
