"""OLMo 2's rules for questions and answers (section 4.3)."""

from __future__ import annotations

from lehr.config.filters.origin import StackExchangeFilter
from lehr.data.document import Document
from lehr.data.filters.metadata import number
from lehr.data.filters.thresholds import verdict
from lehr.data.verdict import Drop, Filter, Keep

_REASONS = {"question_votes": "too few votes for the question", "answer_votes": "too few votes for the answer"}
_NONE = (None, False, 0, "", "0", "false", "False", "null", "None")  # an accepted answer may be given as its number


def make(config: StackExchangeFilter) -> Filter:
    def stackexchange(document: Document) -> Keep | Drop:
        question, answer = number(document, config.question_votes_key), number(document, config.answer_votes_key)
        asked = ((question, config.min_question_votes), (answer, config.min_answer_votes))
        if any(votes is None and least is not None for votes, least in asked) and config.missing == "drop":
            return Drop("votes not given")
        votes = {"question_votes": question, "answer_votes": answer}
        found = verdict(config, {name: value for name, value in votes.items() if value is not None}, _REASONS)
        told = config.accepted_answer_key in document.metadata or config.missing == "drop"
        accepted = document.metadata.get(config.accepted_answer_key) not in _NONE
        if isinstance(found, Keep) and config.accepted_answer and told and not accepted:
            return Drop("no accepted answer", found.scores)
        return found

    return stackexchange
