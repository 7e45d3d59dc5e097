"""Majority votes over several sampled answers to one prompt.

OLMo 2 section 5, for its synthetic mathematics: "we only include prompts and completions where the model reaches a majority
vote over 5 completions". Here a prompt stays if more than half of its answers give the same result; its first answer with that
result is trained on, every other one is counted and recorded as dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from lehr.config.chat import ConversationsSource
from lehr.data.votes import majority
from lehr.post.sets.audit import Audit
from lehr.post.sets.files import Row
from lehr.post.sets.shapes import Ballot, Conversation
from lehr.post.verifiers.matching import normalised
from lehr.post.verifiers.numbers import parsed

FEW, NONE, AGAINST, ANOTHER = (
    "fewer answers than majority_of", "no majority among the answers", "against the majority of the answers",
    "another answer of the majority is kept",
)  # fmt: skip
_BOXED = re.compile(r"\\boxed\s*{")


def result_of(text: str, how: str) -> str:
    """What an answer is counted as; empty if it has no result, and then it votes for nothing."""
    if how == "number":
        return _digits(parsed(text))
    return normalised(text if how == "text" else _boxed(text), "squad" if how == "text" else "none")


def _digits(number: Decimal | None) -> str:
    """12.50 is 12.5, and -0 is 0."""
    if number is None:
        return ""
    whole, _, decimals = format(number, "f").partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else "0" if whole == "-0" else whole


def _boxed(text: str) -> str:
    """The content of the last \\boxed{}, without white space; empty if there is none, or it does not end."""
    start, depth = next((m.end() for m in reversed(list(_BOXED.finditer(text)))), -1), 1
    for end in range(start, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            return "".join(text[start:end].split())
    return ""


def voted(
    found: Iterator[tuple[Row, Ballot]], name: str, source: ConversationsSource, audit: Audit
) -> Iterator[tuple[Row, Conversation]]:
    """One answer of each prompt that has a majority. From here on answers are counted, not prompts."""
    for row, ballot in found:
        answers = ballot.answers
        audit.sets[name].read += len(answers) - 1
        texts = [answer.messages[-1].content for answer in answers]
        results = [result_of(text, source.vote_on) for text in texts]
        elected = majority(results)
        if len(answers) < source.majority_of or not elected:
            reason, kept = FEW if len(answers) < source.majority_of else NONE, -1
        else:
            kept = results.index(elected)
        for number, text in enumerate(texts):
            one = Row(f"{row.where}, completion {number}", row.number, {"completion": text, "id": f"{row.where}/{number}"})
            if kept < 0:
                audit.drop(name, one, reason)
            elif number != kept:
                audit.drop(name, one, ANOTHER if results[number] == elected else AGAINST)
        if kept >= 0:
            yield row, answers[kept]
