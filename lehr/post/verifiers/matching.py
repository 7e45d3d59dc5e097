"""Answers compared as texts: equal after a stated normalisation, or matched by a regular expression within a time."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lehr.post.verifiers.arguments import Args, Arguments, Text, need
from lehr.runtime import text as texts

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SECONDS = 1.0  # for a regular expression on one response


def normalised(text: str, how: str) -> str:
    """`none`: as it is. `spaces`: Unicode's composed form (NFC), runs of white space as one blank, none at the ends.
    `squad`: that, and lower case, without ASCII punctuation and the articles a, an, the (Rajpurkar et al. 2016)."""
    if how == "none":
        return text
    text = unicodedata.normalize("NFC", text)
    if how == "squad":
        text = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(text.split())


def exact_match(args: Args, text: str) -> bool:
    """The response equals one of `answers`, both normalised."""
    how = args.get("normalise", "spaces")
    return normalised(text, how) in {normalised(answer, how) for answer in args["answers"]}


class Answers(Arguments):
    answers: Annotated[list[str], Field(min_length=1)]
    normalise: Literal["none", "spaces", "squad"] = "spaces"


def mentions(args: Args, text: str) -> bool:
    """The response mentions `all` of these, as whole words in any case, and `none` of those."""
    found = (texts.mentions(text, phrase) for phrase in args["all"])
    return all(found) and not any(texts.mentions(text, phrase) for phrase in args.get("none", ()))


class Mentioned(Arguments):
    all: Annotated[list[Text], Field(min_length=1)]
    none: list[Text] = []


def regex(args: Args, text: str) -> bool:
    """`pattern` is found in the response, or with `whole` matches all of it. One that takes over a second does not
    match: patterns that backtrack take years."""
    try:
        compiled = _compiled(args)
        found = compiled.fullmatch if args.get("whole", False) else compiled.search
        return found(text, timeout=_SECONDS) is not None
    except TimeoutError:
        return False


def _compiled(args: Args) -> Any:
    import regex as library

    return library.compile(args["pattern"], library.IGNORECASE if args.get("ignore_case", False) else 0)


class Pattern(Arguments):
    """`pattern` is of the package `regex`, which takes all that Python's own does."""

    pattern: Text
    whole: bool = False
    ignore_case: bool = False

    @model_validator(mode="after")
    def _compiles(self) -> Pattern:
        need("regex", "regex")
        import regex as library

        try:
            library.compile(self.pattern)
        except library.error as error:
            raise ValueError(f"the pattern is wrong: {error}") from error
        return self
