"""Which of our rules has a namesake in a peer, and why the two may differ."""
# ruff: noqa: E501 (the reasons are cells of a table)

from __future__ import annotations

from dataclasses import dataclass

NO_REASON = ""
_SIGNS = "ours leaves words of symbols alone out of the count, as datatrove does"
_SPELLED = "ours counts every `#`, `...` and `…` by itself; here a word with one counts once"
_INDENTED = "ours looks behind blanks at a line's beginning and takes `•` and `-`, as datatrove does; here `*` and `-`, at the very beginning"
_DOTS = "ours takes `...` and `…`, behind which blanks may stand"
_STOP = "ours counts different words of any case, as the paper does"
_FIRST = "here the first of several equal lines counts as repeated too; ours counts those that stood before, as datatrove does"
_SHARE = "here characters of words alone, in both; ours counts the blanks too, as datatrove does"
_SEQUENCES = "here the share of the characters of n-grams that occur twice, the first place too, among those of all n-grams; ours is the share of the text that stood before, each word once"


@dataclass(frozen=True)
class Rule:
    """`ours` and `theirs` name scores. `name` names the threshold of ours, that both are held against: `min_NAME` and `max_NAME` of
    its filter's defaults; "" where the scores are to be the same number. `times`: what brings their score to our unit. `why`: in
    what the peer's rule is another; without it not one verdict may differ."""

    ours: str
    theirs: str
    name: str = ""
    why: str = NO_REASON
    times: float = 1.0


def _ngrams(duplicated: str, top: str, why: tuple[str, str]) -> list[Rule]:
    found = [Rule(f"gopher_repetition.top_{n}grams", top.format(n), f"top_{n}grams", why[0]) for n in range(2, 5)]
    return found + [
        Rule(f"gopher_repetition.duplicate_{n}grams", duplicated.format(n), f"duplicate_{n}grams", why[1]) for n in range(5, 11)
    ]


DOLMA = [
    Rule("gopher_quality.words", "word_count", "words", _SIGNS),
    Rule("gopher_quality.mean_word_length", "median_word_length", "mean_word_length", "here the median in place of the mean"),
    Rule("gopher_quality.symbols", "symbol_to_word_ratio", "symbols", f"{_SPELLED}; `...` is none here"),
    Rule("gopher_quality.bullet_lines", "fraction_of_lines_starting_with_bullet_point", "bullet_lines", _INDENTED),
    Rule("gopher_quality.ellipsis_lines", "fraction_of_lines_ending_with_ellipsis", "ellipsis_lines", f"{_DOTS}; here `…` alone"),
    Rule("gopher_quality.alphabetic_words", "fraction_of_words_with_alpha_character", "alphabetic_words"),
    Rule("gopher_quality.stop_words", "required_word_count", "stop_words", f"{_STOP}; here the same one twice does, and in lower case"),
    Rule("gopher_repetition.duplicate_lines", "fraction_of_duplicate_lines", "duplicate_lines", _FIRST),
    Rule("gopher_repetition.duplicate_line_characters", "fraction_of_characters_in_duplicate_lines", "duplicate_line_characters", _FIRST),
    *_ngrams("fraction_of_characters_in_duplicate_{}grams", "fraction_of_characters_in_most_common_{}grams", (_SHARE, _SEQUENCES)),
    Rule("c4.curly_brackets", "has_curly_brace"),
    Rule("c4.lorem_ipsum", "has_lorem_ipsum"),
    Rule("c4.javascript", "has_javascript", why="here it has to be a word of its own"),
    Rule("c4.unmarked_lines", "lines_with_no_ending_punctuation", why="C4's code, and ours, takes lines out that end in an ellipsis, and keeps those that end in `'` or `”`; what stands behind the last newline is a line here"),
    Rule("c4.short_lines", "lines_with_too_few_words", why="what stands behind the last newline is a line here, if there is nothing too"),
    Rule("pii.email", "EMAIL_ADDRESS", why="here an address must be followed by a blank"),
    Rule("pii.phone", "PHONE_NUMBER", why="here a blank must stand before a number, and it may be cut out of a longer one"),
    Rule("pii.ip", "IP_ADDRESS", why="here it may be cut out of a longer number"),
    Rule("repeated_ngram.repeats", "repetitions", "repeats", "here a sequence that does not begin at a multiple of its length counts once less or more"),
    Rule("granite_code.xml", "has_xml_template_doc"),
    Rule("starcoder.stars", "num_github_stars_doc", "stars"),
    Rule("granite_code.html_text", "code_to_text_ratio_html_doc", "html_text", "here blanks and the head's title count as visible text"),
]  # fmt: skip

TOOLKIT = [
    Rule("gopher_quality.words", "docq_total_words", "words", _SIGNS),
    Rule("gopher_quality.mean_word_length", "docq_mean_word_len", "mean_word_length", _SIGNS),
    Rule("gopher_quality.symbols", "docq_symbol_to_word_ratio", "symbols", f"{_SPELLED}; `…` is none here"),
    Rule("gopher_quality.bullet_lines", "docq_bullet_point_ratio", "bullet_lines", _INDENTED),
    Rule("gopher_quality.ellipsis_lines", "docq_ellipsis_line_ratio", "ellipsis_lines", f"{_DOTS}; here `...` alone"),
    Rule("gopher_quality.alphabetic_words", "docq_alphabet_word_ratio", "alphabetic_words"),
    Rule("c4.curly_brackets", "curly_bracket", why="here the closing one does too"),
    Rule("c4.lorem_ipsum", "lorem_ipsum"),
    Rule("gopher_repetition.duplicate_lines", "dup_line_frac", "duplicate_lines"),
    Rule("gopher_repetition.duplicate_line_characters", "dup_line_char_frac", "duplicate_line_characters"),
    Rule("gopher_repetition.duplicate_paragraphs", "dup_para_frac", "duplicate_paragraphs"),
    Rule("gopher_repetition.duplicate_paragraph_characters", "dup_para_char_frac", "duplicate_paragraph_characters"),
    *_ngrams("dup_{}_grams", "top_{}_grams", ("", "")),
    Rule("fineweb.marked_lines", "frac_line_punct", "marked_lines", "here empty lines count as lines, and `'` and `\"` end one too"),
    Rule("fineweb.short_lines", "short_line_frac", "short_lines", "here empty lines count as short ones"),
    Rule("fineweb.duplicate_line_characters", "fineweb_dup_line_char_frac", "duplicate_line_characters"),
    Rule("fineweb.newlines", "new_line_ratio", "newlines"),
    Rule("granite_code.letters", "alpha_percent", "letters", times=0.01),
    Rule("granite_code.xml", "xml"),
    Rule("granite_code.html", "html", why="here blanks and the head's title count as visible text"),
    Rule("granite_code.mean_line", "line_mean", why="in ours what stands behind the last newline is a line, if there is nothing too"),
    Rule("granite_code.longest_line", "line_max"),
    Rule("starcoder.top_word", "top_word_percent", "top_word", "here words are runs of letters and digits in lower case; ours are what blanks separate", 0.01),
    Rule("starcoder.top_two_words", "top_two_words_percent", "top_two_words", "as above", 0.01),
]  # fmt: skip
