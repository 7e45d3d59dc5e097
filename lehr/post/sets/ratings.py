"""From supplied ratings by aspect to rated answers, and to pairs of answers to one prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from lehr.config.chat import PreferencesSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.asked import SPLITS
from lehr.post.chat import render
from lehr.post.pairs import PAIRS
from lehr.post.rewards.data import RATINGS
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.preferences import Preparing
from lehr.post.sets.prepare import clean, read_set
from lehr.post.sets.shapes import BadRow, Values, shape_of
from lehr.post.sets.turns import check, decoded, prompt_of, text_in, with_system
from lehr.runtime import seeds
from lehr.runtime.errors import UserError


class Rating(NamedTuple):
    """Answers to the turns `prompt`, each with its ratings by aspect."""

    prompt: tuple[Message, ...]
    answers: tuple[tuple[str, dict[str, float]], ...]


def rating_of(values: Values, aspects: Sequence[str]) -> Rating:
    """The rated answers of a row: `prompt` and `answers`, each {text, rating: {aspect: number}}; or, as HelpSteer2 has them,
    `prompt`, `response` and a column for each aspect. Raises BadRow for an answer that is not rated by every aspect."""
    shape = shape_of("ratings", values)
    prompt = with_system(prompt_of(values["prompt"]), values.get("system"))
    check(prompt)
    rows = decoded(values["answers"]) if shape == "rated answers" else [{"text": values["response"], "rating": values}]
    found = []
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        where = f"answers.{number}" if shape == "rated answers" else "response"
        text = text_in(row.get("text", row.get("content")), where) if isinstance(row, dict) else ""
        if not text.strip():
            raise BadRow(f"{where}: the answer is empty", "give each answer its text, or leave it out")
        found.append((text, _ratings(row.get("rating", row.get("score")), aspects, where)))
    if not found:
        raise BadRow("answers: none", "give each prompt a rated answer")
    return Rating(tuple(prompt), tuple(found))


def _ratings(given: Any, aspects: Sequence[str], where: str) -> dict[str, float]:
    said = {name: given.get(name) for name in aspects} if isinstance(given, Mapping) else dict.fromkeys(aspects)
    for name, value in said.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
            raise BadRow(f"{where}: not rated by {name}", f"rate each answer by {', '.join(aspects)}, with numbers")
    return {name: float(value) for name, value in said.items()}  # type: ignore[arg-type]


def prepare_ratings(
    wish: Preparing, aspects: Mapping[str, float], tokenizer: Tokenizer, index: Decontaminator, out: Path
) -> dict[str, int]:
    """Write the rated answers of every source to `out`, the pairs among them, counts and dropped rows. Returns the number of
    answers by split. Raises UserError for bad rows, and for a source of which nothing is left to train on."""
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    with (
        Audit(out) as audit,
        (out / RATINGS).open("w", encoding="utf-8") as file,
        (out / PAIRS).open("w", encoding="utf-8") as paired,
    ):
        for name, amount in wish.amounts.items():
            source = wish.sources[name]
            audit.sets[name] = SetCounts(source.origin, source.license)
            found = list(_answers(name, wish, list(aspects), tokenizer, index, audit))
            train = [row for row in found if row["split"] == "train"]
            if not train:
                raise UserError(f"no answer of {name!r} is left to train on", where=source.path, remedy="add ratings")
            count = wanted({name: amount}, {name: len(train)}, wish.samples)[name]
            chosen = [train[i] for i in drawn(0, len(train), count, seeds.derive(wish.seed, name))]
            held_out = [row for row in found if row["split"] == "held_out"]
            _count(audit.sets[name], len(found), chosen)
            for row in [*chosen, *held_out]:
                counts[row["split"]] += 1
                file.write(json.dumps({k: v for k, v in row.items() if k != "tokens"}, sort_keys=True) + "\n")
            for pair in _pairs(found, aspects):
                paired.write(json.dumps(pair, sort_keys=True) + "\n")
        audit.close()
    return counts


def _count(counts: SetCounts, kept: int, chosen: Sequence[Mapping[str, Any]]) -> None:
    counts.kept, counts.drawn = kept, len(chosen)
    counts.tokens = counts.trained_tokens = sum(row["tokens"] for row in chosen)


def _answers(
    name: str, wish: Preparing, aspects: list[str], tokenizer: Tokenizer, index: Decontaminator, audit: Audit
) -> Iterator[dict[str, Any]]:
    """The rated answers of a source's files as rows of the artifact, with their number of tokens."""
    source: PreferencesSource = wish.sources[name]
    found = read_set(name, source, lambda values: rating_of(values, aspects), "ratings", audit)
    for row, rating in clean(found, index, name, audit, _texts):
        prompt = [m.row() for m in rating.prompt]
        held = seeds.uniform_hash(json.dumps(prompt, sort_keys=True)) < source.held_out_share
        for text, ratings in rating.answers:
            try:
                length = len(render([*rating.prompt, Message("assistant", text)], tokenizer, False)[0])
            except UserError as error:
                raise UserError(error.what, where=row.where, remedy=error.remedy) from None
            if length > wish.max_length:
                audit.drop(name, row, "longer than max_length")
                continue
            yield {
                "split": "held_out" if held else "train", "family": name, "prompt": prompt, "answer": text, "ratings": ratings,
                "tokens": length,
            }  # fmt: skip


def _texts(rating: Rating) -> list[Message]:
    return [*rating.prompt, *(Message("assistant", text) for text, _ in rating.answers)]


def _pairs(rows: Sequence[Mapping[str, Any]], aspects: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """For each prompt the answer with the highest weighted ratings against that with the lowest, unless they are equal."""

    def asked(row: Mapping[str, Any]) -> str:
        return json.dumps(row["prompt"], sort_keys=True)

    def worth(row: Mapping[str, Any]) -> float:
        return float(sum(weight * row["ratings"][name] for name, weight in aspects.items()))

    for _, group in groupby(sorted(rows, key=asked), key=asked):
        answers = list(group)
        best, worst = max(answers, key=worth), min(answers, key=worth)
        if worth(best) > worth(worst) and best["answer"] != worst["answer"]:
            own = {key: best[key] for key in ("split", "family", "prompt")}
            yield {**own, "chosen": best["answer"], "rejected": worst["answer"]}
