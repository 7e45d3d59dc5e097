"""Rows as preferences. See lehr.post.sets.shapes."""

from __future__ import annotations

from lehr.data.synthetic.conversations import Message
from lehr.post.sets.shapes import BadRow, Preference, Rated, Values, shape_of
from lehr.post.sets.turns import answer_of, check, decoded, prompt_of, text_in, turns, with_system


def preference_of(values: Values) -> Preference | Rated:
    """The preference of a row. Raises BadRow as `conversation_of` does, and for an empty answer, for equal answers and for two
    dialogues of different prompts."""
    shape = shape_of("preferences", values)
    if shape == "rated answers":
        return _rated(values)
    if shape == "ShareGPT pairs":
        prompt = turns(values["conversations"], "conversations")
        sides = [answer_of(values[side], side) for side in ("chosen", "rejected")]
    else:
        keys = ("chosen_messages", "rejected_messages") if shape == "message pairs" else ("chosen", "rejected")
        prompt = prompt_of(values["prompt"]) if values.get("prompt") is not None else []
        sides = [answer_of(decoded(values[key]) if prompt == [] else values[key], key) for key in keys]
    prompt, texts = _apart(prompt, sides)
    prompt = with_system(prompt, values.get("system"))
    check(prompt)
    if texts[0].strip() == texts[1].strip():
        raise BadRow("chosen and rejected are equal", "leave the row out")
    return Preference(tuple(prompt), texts[0], texts[1], _ratings(values))


def _apart(prompt: list[Message], sides: list[list[Message]]) -> tuple[list[Message], list[str]]:
    """The turns before the answers, and the two answers. Raises BadRow."""
    texts = []
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        *before, last = side
        if last.role != "assistant":
            raise BadRow(f"{name}: its last turn is not the assistant's", "end both sides with the answer")
        if not last.content.strip():
            raise BadRow(f"{name}: the answer is empty", "give both sides an answer, or leave the row out")
        if before and prompt and before != prompt:
            raise BadRow(f"{name}: its turns before the answer are not those of the prompt", "give one prompt to both sides")
        prompt = prompt or before
        texts.append(last.content)
    if not prompt:
        raise BadRow("no prompt before the answers", "add a prompt, or give chosen and rejected as messages")
    if prompt[-1].role not in ("user", "tool"):
        raise BadRow("the prompt does not end with a turn of the user", "end it with the question")
    return prompt, texts


def _ratings(values: Values) -> tuple[float, float] | None:
    for chosen, rejected in (("chosen_rating", "rejected_rating"), ("score_chosen", "score_rejected")):
        pair = values.get(chosen), values.get(rejected)
        if all(isinstance(rating, int | float) and not isinstance(rating, bool) for rating in pair):
            return float(pair[0]), float(pair[1])  # type: ignore[arg-type]
    return None


def _rated(values: Values) -> Rated:
    prompt, answers = prompt_of(values["prompt"]), decoded(values["answers"])
    prompt = with_system(prompt, values.get("system"))
    check(prompt)
    found = []
    for number, answer in enumerate(answers if isinstance(answers, list) else []):
        where = f"answers.{number}"
        text = answer.get("text", answer.get("content")) if isinstance(answer, dict) else None
        rating = answer.get("rating", answer.get("score")) if isinstance(answer, dict) else None
        if isinstance(rating, dict):  # several aspects: their mean, as in OLMo 2 section 5
            aspects = [float(value) for value in rating.values() if isinstance(value, int | float)]
            rating = sum(aspects) / len(aspects) if aspects else None
        if not isinstance(text, str) or not text.strip() or not isinstance(rating, int | float):
            raise BadRow(
                f"{where}: not a text with a rating", "write {text, rating}; a rating is a number, or one for each aspect"
            )
        found.append((text_in(text, where), float(rating)))
    if len(found) < 2:
        raise BadRow(f"{len(found)} answers, where two or more are compared", "give each prompt several rated answers")
    return Rated(tuple(prompt), tuple(found))
