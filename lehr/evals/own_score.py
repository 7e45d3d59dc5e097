"""Scores of a task of one's own: what a model makes of its questions, passages and prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lehr.config.judged_checks import JUDGED, metric_names
from lehr.evals.answers import extracted, judged, pass_at
from lehr.evals.judged import Gave, Judged, Judging
from lehr.evals.perplexity import Request, strided
from lehr.evals.task import Asked, Document, Passage, Question, Scored, ScoringModel
from lehr.post.chat import render, turn_end_id
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import require

Values = dict[str, list[float]]  # of each metric, what each example gave


def questions(model: ScoringModel, examples: Sequence[Question]) -> Values:
    """Of choices, accuracies by the log-probability of each and by it divided or lessened as their names say; of all, the right
    one's bits per byte; of single ones also their nats and whether greedy decoding gives them."""
    asked = [(e.context, text, e.encoding) for e in examples for text in e.continuations]
    alone = [(e.alone, text, e.encoding) for e in examples if e.alone is not None for text in e.continuations]
    scored = iter(model.logprobs([request(model, *one) for one in (*asked, *alone)]))
    rows = [[next(scored) for _ in e.continuations] for e in examples]
    without = iter([[next(scored)[0] for _ in e.continuations] for e in examples if e.alone is not None])
    found: Values = {}
    for example, row in zip(examples, rows, strict=True):
        alone_row = next(without) if example.alone is not None else None
        for metric, value in _of_question(example, row, alone_row).items():
            found.setdefault(metric, []).append(value)
    first = examples[0].primary
    return {metric: found[metric] for metric in sorted(found, key=lambda name: (name != first, name))}


def _of_question(example: Question, row: Sequence[Scored], without: Sequence[float] | None) -> dict[str, float]:
    texts = [text[example.uncounted :] for text in example.continuations]
    logprobs = np.array([logprob for logprob, _, _ in row])
    gold = example.golds[0]
    found = {"answer_bits_per_byte": float(-logprobs[gold] / math.log(2) / len(texts[gold].encode()))}
    if len(texts) == 1:
        return {**found, "answer_nats": float(-logprobs[0]), "greedy_match": float(row[0][2])}
    by = {
        "acc": logprobs,
        "acc_per_char": logprobs / [len(text) for text in texts],
        "acc_per_byte": logprobs / [len(text.encode()) for text in texts],
        "acc_per_token": logprobs / [tokens for _, tokens, _ in row],
    }
    if without is not None:
        by["acc_pmi"] = logprobs - np.array(without)
    return found | {metric: float(int(np.argmax(values)) in example.golds) for metric, values in by.items()}


def request(model: ScoringModel, context: str, continuation: str, encoding: str) -> Request:
    """The ids of both. Raises UserError for a continuation that leaves no token of its own."""
    ids = (_as_lehr if encoding == "lehr" else as_lm_eval)(model, context, continuation)
    if not ids[1]:
        what = f"the continuation {continuation[:40]!r} leaves no token after {context[-40:]!r}"
        raise UserError(what, remedy="end the prompt, or begin the choices, with another character")
    return ids


def _as_lehr(model: ScoringModel, context: str, continuation: str) -> Request:
    tokenizer = model.tokenizer
    before, whole = tokenizer.encode(context), tokenizer.encode(context + continuation)
    border = next((i for i, (x, y) in enumerate(zip(before, whole, strict=False)) if x != y), min(len(before), len(whole)))
    return [tokenizer.eos_id, *whole[:border]], whole[border:]


def as_lm_eval(model: ScoringModel, context: str, continuation: str) -> Request:
    """As lm-eval 0.4.13 encodes a pair: blanks at the context's end go to the continuation; both are encoded together, and the
    continuation is what comes after as many tokens as the context has alone; an empty context is the end-of-text token."""
    tokenizer = model.tokenizer
    if not context:
        ids = tokenizer.encode(continuation)
        return (ids[:1], ids[1:]) if ids[:1] == [tokenizer.eos_id] else ([tokenizer.eos_id], ids)
    bare = context.rstrip()
    before = tokenizer.encode(bare)
    return before, tokenizer.encode(context + continuation)[len(before) :]


class Read(NamedTuple):
    """What a model makes of each text: the negative log-likelihood in nats, and the numbers of tokens and of UTF-8 bytes."""

    nats: list[float]
    tokens: list[float]
    bytes: list[float]


def passages(model: ScoringModel, examples: Sequence[Passage], width: int) -> Read:
    """Each text by itself, after an end-of-text token: no token of another text is ever read. `width` is the window of those
    that have none of their own. Raises UserError for a text that has no token in the model's vocabulary."""
    tokenizer = model.tokenizer
    parts = []
    for number, example in enumerate(examples):
        window, stride = (example.window, example.stride) if isinstance(example, Document) else (0, 0)
        window = window or width
        parts.append(strided(tokenizer.encode(example.text), tokenizer.eos_id, window, stride or window))
        if not parts[-1]:
            what = f"text {number}, {example.text[:20]!r}, is no token in the model's vocabulary"
            raise UserError(what, remedy="remove its row")
    scores = iter(model.logprobs([request for part in parts for request in part]))
    read = [[next(scores) for _ in part] for part in parts]
    nats = [math.fsum(-logprob for logprob, _, _ in scored) for scored in read]
    tokens = [float(sum(count for _, count, _ in scored)) for scored in read]
    return Read(nats, tokens, [float(len(e.text.encode())) for e in examples])


def answers(model: ScoringModel, examples: Sequence[Asked], seed: int, judges: Judging | None = None) -> dict[str, Gave]:
    """Each check of each way of taking out the answer; of several samples their mean, and pass@k by the first of them. Raises
    UserError for answers that a model is to judge where there are no `judges`."""
    first = examples[0]
    times = max(1, first.samples)
    by_check = {
        (way, check): [f"{name}@{way}" if way else name for name in metric_names(check, args, times)]
        for way, _ in first.extract
        for check, args in first.checks
    }
    names = [name for several in by_check.values() for name in several]
    require([*names, *(f"pass@{k}" for k in first.pass_at)])  # before decoding, not after
    to_judge = [example for example in examples if isinstance(example, Judged)]
    if to_judge and judges is None:
        what = f"its answers are judged by a model ({to_judge[0].by[0].scored_by.words}), which is asked by evaluations alone"
        raise UserError(what, remedy="take another task here")
    texts = answered(model, [e for e in examples for _ in range(times)], seed)
    parts = {way: [extracted(text, steps) for text in texts] for way, steps in first.extract}
    found: dict[str, Gave] = {}
    for (way, check), of in by_check.items():
        if check not in JUDGED:
            scores = [judged(check, _args(examples[n // times], check), part) for n, part in enumerate(parts[way])]
            each = [scores[n : n + times] for n in range(0, len(scores), times)]
            found[of[0]] = Gave([math.fsum(values) / times for values in each])
            if of[0] == names[0]:
                for k in first.pass_at:
                    right = [pass_at(k, times, sum(value == 1.0 for value in values)) for values in each]
                    found[f"pass@{k}"] = Gave(right)
    if to_judge and judges is not None:
        found |= judges.values(to_judge, parts)
    order = {name: place for place, name in enumerate(names)}
    return {name: found[name] for name in sorted(found, key=lambda name: order.get(name, len(order)))}


def _args(example: Asked, check: str) -> dict[str, Any]:
    return next(args for name, args in example.checks if name == check)


def answered(model: ScoringModel, examples: Sequence[Asked], seed: int) -> list[str]:
    """The answer to each prompt, up to the first of its stop strings or the end of the text. The limit, the temperature and the
    stop strings are those of the first: they are the same for all of a task."""
    first, tokenizer = examples[0], model.tokenizer
    ends = {tokenizer.eos_id, *([turn_end_id(tokenizer)] if first.messages else [])}
    stops = sorted(ends | stop_ids(model, first.stop))
    prompts = [_prompt_ids(model, e) for e in examples]
    found = []
    for ids in model.generate(prompts, first.max_tokens, stops, first.temperature, seed):
        end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        found.append(cut(tokenizer.decode(list(ids[:end])), first.stop))
    return found


def _prompt_ids(model: ScoringModel, example: Asked) -> list[int]:
    if example.messages:
        return render(list(example.messages), model.tokenizer, add_generation_prompt=True)[0]
    ids = model.tokenizer.encode(example.prompt)
    return [model.tokenizer.eos_id, *ids] if example.encoding == "lehr" or not ids else ids


def stop_ids(model: ScoringModel, stop: Sequence[str]) -> set[int]:
    """Tokens after which decoding need not go on, since their text has a stop string; a string of several tokens has none. What
    is cut off is found in the text."""
    found = set[int]()
    for text in (*stop, *("\n\n" for text in stop if text == "\n")):
        ids = model.tokenizer.encode(text)
        if len(ids) == 1 and any(s in model.tokenizer.decode(ids) for s in stop):
            found.add(ids[0])
    return found


def cut(text: str, stop: Sequence[str]) -> str:
    """What comes before the first stop string."""
    for end in stop:
        text = text.split(end, 1)[0]
    return text
