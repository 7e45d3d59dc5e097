"""Instructions whose following a program can check: IFEval's (Zhou et al. 2023), by the names and keyword arguments of
its data.

All of its 25 kinds but `language:response_language`, which needs a model of languages. Keywords are taken as text, not
as patterns.
Where IFEval itself asks a tagger, the rules here are their own, and are given in docs/recipes.md: `number_sentences`,
`capital_word_frequency`, and the two changes of case, which do not look whether the text is English.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from lehr.post.verifiers import instructed
from lehr.post.verifiers.arguments import Args, Arguments, Text

Relation = Literal["less than", "at least"]
Count = Annotated[int, Field(ge=0)]


class Nothing(Arguments):
    pass


class Keywords(Arguments):
    keywords: Annotated[list[Text], Field(min_length=1)]


class Frequency(Arguments):
    keyword: Text
    frequency: Count
    relation: Relation


class Forbidden(Arguments):
    forbidden_words: Annotated[list[Text], Field(min_length=1)]


class Letters(Arguments):
    letter: Annotated[str, Field(min_length=1, max_length=1)]
    let_frequency: Count
    let_relation: Relation


class Sentences(Arguments):
    num_sentences: Count
    relation: Relation


class Words(Arguments):
    num_words: Count
    relation: Relation


class Paragraphs(Arguments):
    num_paragraphs: Count


class FirstWord(Arguments):
    num_paragraphs: Count
    nth_paragraph: Annotated[int, Field(ge=1)]
    first_word: Text


class Placeholders(Arguments):
    num_placeholders: Count


class Postscript(Arguments):
    postscript_marker: Text


class Bullets(Arguments):
    num_bullets: Count


class Highlights(Arguments):
    num_highlights: Count


class Sections(Arguments):
    section_spliter: Text  # as IFEval spells it
    num_sections: Count


class Repeated(Arguments):
    prompt_to_repeat: Text


class Ending(Arguments):
    end_phrase: Text


class Capitals(Arguments):
    capital_frequency: Count
    capital_relation: Relation


KINDS: dict[str, tuple[Callable[[Args, str], bool], type[Arguments]]] = {
    "keywords:existence": (instructed.has_keywords, Keywords),
    "keywords:frequency": (instructed.keyword_frequency, Frequency),
    "keywords:forbidden_words": (instructed.no_forbidden_word, Forbidden),
    "keywords:letter_frequency": (instructed.letter_frequency, Letters),
    "length_constraints:number_sentences": (instructed.number_of_sentences, Sentences),
    "length_constraints:number_paragraphs": (instructed.number_of_paragraphs, Paragraphs),
    "length_constraints:number_words": (instructed.number_of_words, Words),
    "length_constraints:nth_paragraph_first_word": (instructed.first_word_of_paragraph, FirstWord),
    "detectable_content:number_placeholders": (instructed.number_of_placeholders, Placeholders),
    "detectable_content:postscript": (instructed.has_postscript, Postscript),
    "detectable_format:number_bullet_lists": (instructed.number_of_bullets, Bullets),
    "detectable_format:constrained_response": (instructed.is_one_of_three, Nothing),
    "detectable_format:number_highlighted_sections": (instructed.number_of_highlights, Highlights),
    "detectable_format:multiple_sections": (instructed.number_of_sections, Sections),
    "detectable_format:json_format": (instructed.is_json, Nothing),
    "detectable_format:title": (instructed.has_title, Nothing),
    "combination:two_responses": (instructed.is_two_responses, Nothing),
    "combination:repeat_prompt": (instructed.repeats_prompt, Repeated),
    "startend:end_checker": (instructed.ends_with, Ending),
    "startend:quotation": (instructed.is_quoted, Nothing),
    "change_case:capital_word_frequency": (instructed.capital_words, Capitals),
    "change_case:english_capital": (lambda args, text: text.isupper(), Nothing),
    "change_case:english_lowercase": (lambda args, text: text.islower(), Nothing),
    "punctuation:no_comma": (lambda args, text: "," not in text, Nothing),
}


def follows(args: Args, text: str) -> bool:
    """The response is not empty and follows all instructions. With `loose`, one of IFEval's eight variants of it does, for each
    instruction: without the first line, the last, both, and each of these without asterisks."""
    variants = [v for v in (_variants(text) if args.get("loose", False) else [text]) if v.strip()]
    asked = zip(args["instruction_id_list"], args["kwargs"], strict=True)
    return bool(variants) and all(any(KINDS[name][0](_given(given), v) for v in variants) for name, given in asked)


def _given(given: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments without those that IFEval's data holds as null."""
    return {name: value for name, value in given.items() if value is not None}


def _variants(text: str) -> Iterator[str]:
    lines = text.split("\n")
    for some in (lines, lines[1:], lines[:-1], lines[1:-1]):
        whole = "\n".join(some).strip() if some is not lines else text
        yield whole
        yield whole.replace("*", "")


class Instructions(Arguments):
    """IFEval's own two lists, of the same length."""

    instruction_id_list: Annotated[list[str], Field(min_length=1)]
    kwargs: list[dict[str, Any]]
    loose: bool = False

    @model_validator(mode="after")
    def _are_known(self) -> Instructions:
        if len(self.kwargs) != len(self.instruction_id_list):
            raise ValueError(f"there are {len(self.instruction_id_list)} instructions and {len(self.kwargs)} kwargs")
        for name, given in zip(self.instruction_id_list, self.kwargs, strict=True):
            if name not in KINDS:
                raise ValueError(f"there is no instruction {name!r}; there are {', '.join(KINDS)}")
            try:
                KINDS[name][1].model_validate(_given(given))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "its kwargs"
                raise ValueError(f"instruction {name!r}, {where}: {first['msg']}") from error
        return self
