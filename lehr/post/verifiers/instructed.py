"""Whether a text follows an instruction: one function for each kind of IFEval (Zhou et al. 2023). All take time in
proportion to the text, or nearly."""

from __future__ import annotations

import json
import re

from lehr.post.verifiers.arguments import Args

_THREE = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+")
_HIGHLIGHT, _DOUBLE_HIGHLIGHT = re.compile(r"\*[^\n*]*\*"), re.compile(r"\*\*[^\n*]*\*\*")
_STAR = re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE)  # as in IFEval, a star alone in its line takes the next line with it
_PARAGRAPH = re.compile(r"\s?\*\*\*\s?")
_POSTSCRIPTS = {"P.P.S": re.compile(r"p\.\s?p\.\s?s"), "P.S.": re.compile(r"p\.\s?s\.")}
_FENCES = ("```json", "```Json", "```JSON", "```")
_ENDS_FIRST_WORD = re.compile(r"[.,?!'\"]")
# A sentence ends in . ! or ? (and what closes after it) before a blank and the next one's beginning.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c\u2018]*[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|Inc|Ltd|Co|No|Fig|e\.g|i\.e)|\b[A-Z]|\b[A-Z]\.[A-Z])\.\s*$"
)
_LOOK_BACK = 12  # characters before the end of a sentence in which an abbreviation is looked for
_EDGES = ".,;:!?\"'()[]{}<>*_`\u201c\u201d\u2018\u2019\u2026-"


def _holds(count: int, wanted: int, relation: str) -> bool:
    return count < wanted if relation == "less than" else count >= wanted


def has_keywords(args: Args, text: str) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in args["keywords"])


def keyword_frequency(args: Args, text: str) -> bool:
    count = len(re.findall(re.escape(args["keyword"]), text, re.IGNORECASE))
    return _holds(count, args["frequency"], args["relation"])


def no_forbidden_word(args: Args, text: str) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in args["forbidden_words"])


def letter_frequency(args: Args, text: str) -> bool:
    return _holds(text.lower().count(args["letter"].lower()), args["let_frequency"], args["let_relation"])


def sentences(text: str) -> int:
    """Sentences of a text: ended by . ! or ?, but not by an abbreviation's or an initial's point."""
    if not text.strip():
        return 0
    real = [m for m in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[max(m.start() - _LOOK_BACK, 0) : m.end()])]
    return 1 + len(real)


def number_of_sentences(args: Args, text: str) -> bool:
    return _holds(sentences(text), args["num_sentences"], args["relation"])


def number_of_words(args: Args, text: str) -> bool:
    return _holds(len(_WORD.findall(text)), args["num_words"], args["relation"])


def number_of_paragraphs(args: Args, text: str) -> bool:
    """Paragraphs between ***; none in the middle is empty."""
    parts = [bool(part.strip()) for part in _PARAGRAPH.split(text)]
    return all(parts[1:-1]) and sum(parts) == int(args["num_paragraphs"])


def first_word_of_paragraph(args: Args, text: str) -> bool:
    """Paragraphs between empty lines: so many, and the nth begins with the word."""
    parts = text.split("\n\n")
    full = sum(bool(part.strip()) for part in parts)
    nth = args["nth_paragraph"]
    if nth > full or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    return full == int(args["num_paragraphs"]) and _ENDS_FIRST_WORD.split(word)[0].lower() == str(args["first_word"]).lower()


def number_of_placeholders(args: Args, text: str) -> bool:
    """At least so many [placeholders], each on one line."""
    count = 0
    for line in text.split("\n"):
        at = line.find("[")
        while at >= 0 and (end := line.find("]", at)) >= 0:
            count, at = count + 1, line.find("[", end)
    return count >= int(args["num_placeholders"])


def has_postscript(args: Args, text: str) -> bool:
    pattern = _POSTSCRIPTS.get(args["postscript_marker"])
    text = text.lower()
    return bool(pattern.search(text)) if pattern else args["postscript_marker"].lower() in text


def number_of_bullets(args: Args, text: str) -> bool:
    """Exactly so many lines that begin with * or -."""
    dashes = sum(line.lstrip().startswith("-") for line in text.split("\n"))
    return len(_STAR.findall(text)) + dashes == int(args["num_bullets"])


def is_one_of_three(args: Args, text: str) -> bool:
    return any(answer in text for answer in _THREE)


def number_of_highlights(args: Args, text: str) -> bool:
    """At least so many *parts* or **parts** on one line."""
    single = sum(bool(part.strip("*").strip()) for part in _HIGHLIGHT.findall(text))
    double = sum(bool(part[2:-2].strip()) for part in _DOUBLE_HIGHLIGHT.findall(text))
    return single + double >= int(args["num_highlights"])


def number_of_sections(args: Args, text: str) -> bool:
    """At least so many headings: the word and a number."""
    return len(re.findall(rf"{re.escape(args['section_spliter'])}\s?\d+", text)) >= int(args["num_sections"])


def is_json(args: Args, text: str) -> bool:
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_title(args: Args, text: str) -> bool:
    """A line with <<a title>>."""
    for line in text.split("\n"):
        begins, ends = line.find("<<"), line.rfind(">>")
        if 0 <= begins <= ends - 3 and line[begins : ends + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def is_two_responses(args: Args, text: str) -> bool:
    """Two different responses between six asterisks."""
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def repeats_prompt(args: Args, text: str) -> bool:
    return text.strip().lower().startswith(args["prompt_to_repeat"].strip().lower())


def ends_with(args: Args, text: str) -> bool:
    return text.strip().strip('"').lower().endswith(args["end_phrase"].strip().lower())


def is_quoted(args: Args, text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_words(args: Args, text: str) -> bool:
    """Words in capitals, between blanks and without punctuation at their ends or 's."""
    words = (re.sub(r"['\u2019]s$", "", word.strip(_EDGES)) for word in text.split())
    return _holds(sum(word.isupper() for word in words), args["capital_frequency"], args["capital_relation"])
