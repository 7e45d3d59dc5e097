"""What runs in a worker's processes, under the jail's limits: work of libraries on texts that a model wrote."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_MARKS = ("$", "\\[", "\\(", "\\boxed")


def _parsed(text: str) -> Any:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    # The jail's clock ends what takes too long; the library's own uses signals, which C code holds up.
    how = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    return parse(text, how, parsing_timeout=None, raise_on_error=False)


@lru_cache(maxsize=64)
def _gold(answer: str) -> Any:
    return _parsed(answer if any(mark in answer for mark in _MARKS) else f"${answer}$")


def equal(answer: str, text: str) -> bool:
    """Whether the last expression of `text` equals `answer`."""
    from math_verify import verify

    return bool(verify(_gold(answer), _parsed(text), timeout_seconds=None, raise_on_error=False))


def has_expression(answer: str) -> bool:
    """Whether there is an expression in an expected answer."""
    return bool(_gold(answer))


def valid(schema: dict[str, Any], values: list[Any]) -> bool:
    """Whether all values are valid under a JSON schema. Nothing is fetched: references outside the schema raise."""
    return not any(_validator(schema, value) for value in values)


def _validator(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value has an error."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema)
    return next(kind(schema, registry=Registry()).iter_errors(value), None) is not None


def gym_score(name: str, settings: dict[str, Any], index: int, text: str) -> float:
    """reasoning-gym's own score of an answer to one of its questions, between 0 and 1."""
    from lehr.data.reasoning import dataset

    questions = dataset(name, settings)
    return min(max(float(questions.score_answer(text, questions[index])), 0.0), 1.0)


def ready_for_mathematics() -> None:
    """Load math-verify and let it build its parsers, once for all answers."""
    equal("\\frac{1}{2}", "so it is $0.5$, \\boxed{x^2 + 1} or 3/4")


def ready_for_schemas() -> None:
    """Load jsonschema."""
    valid({"type": "object"}, [{}])


def ready_for_gym() -> None:
    """Load reasoning-gym."""
    from lehr.data.reasoning import dataset

    dataset("chain_sum", {})


def answer(function: str, arguments: list[Any]) -> Any:
    """Call one of this module's functions by name."""
    return {work.__name__: work for work in (equal, has_expression, valid, gym_score)}[function](*arguments)
