"""Which of a question's answers is chosen and which is rejected."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.post.pairing.questions import Question
from lehr.runtime import seeds

Chosen = tuple[str, str]  # chosen, rejected


def verified(question: Question, answers: Sequence[str | None], reference: bool) -> Chosen | None:
    """The first answer that passes and the first that fails. With `reference` the data's own is chosen if none passes."""
    right: list[str] = []
    wrong: list[str] = []
    for text in answers:
        if text is not None:
            (right if question.passes(text) else wrong).append(text)
    if wrong and not right and reference and question.answer:
        right.append(question.answer)
    return (right[0], wrong[0]) if right and wrong else None


def rated(answers: Sequence[str | None], ratings: Sequence[float | None], seed: int) -> Chosen | None:
    """The answer with the highest mean rating, the first of equals, against one of the rest that is rated lower and reads
    otherwise (OLMo 2 section 5: "sample from the remaining completions")."""
    known = [(text, rating) for text, rating in zip(answers, ratings, strict=True) if text is not None and rating is not None]
    if not known:
        return None
    best, most = max(known, key=lambda of: of[1])  # the first of equals
    rest = [text for text, rating in known if rating < most and text.strip() != best.strip()]
    return (best, rest[seeds.below(len(rest), seed)]) if rest else None


def gap(strong: Sequence[str | None], weak: Sequence[str | None]) -> Chosen | None:
    """The stronger model's first finished answer, and the weaker one's first that reads otherwise (Granite 3.0 appendix B.3.2;
    Naseem et al. 2024)."""
    chosen = next((text for text in strong if text is not None), None)
    if chosen is None:
        return None
    rejected = next((text for text in weak if text is not None and text.strip() != chosen.strip()), None)
    return None if rejected is None else (chosen, rejected)
