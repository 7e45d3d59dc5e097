"""Scoring a model on a task's examples: the same function in the training loop and for the final table."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lehr.artifacts.artifact import ArtifactRef
from lehr.data.synthetic.conversations import Message
from lehr.evals.estimate import Estimate, ratio
from lehr.evals.judged import Judging
from lehr.evals.judged_by import JudgedBy
from lehr.evals.own_score import answers, passages, questions
from lehr.evals.parts import estimate, parts, text_metrics
from lehr.evals.perplexity import Request, text_bits
from lehr.evals.task import (
    Asked,
    Choice,
    Document,
    Example,
    Generation,
    Items,
    Options,
    Own,
    Pair,
    Part,
    Passage,
    Question,
    Record,
    ScoringModel,
    Text,
)  # fmt: skip
from lehr.post.chat import render, turn_end_id
from lehr.post.verifiers import verify
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import require
from lehr.runtime.seeds import derive

E = TypeVar("E", Text, Choice, Options, Generation, Pair, Question, Passage, Asked)


class Counted(NamedTuple):
    """A number, what each example gave to it, and the same of each source of texts."""

    estimate: Estimate
    items: Items
    parts: Sequence[Part] = ()
    scored_by: JudgedBy | None = None


def counted(values: Sequence[float], weights: Sequence[float] = (), clusters: Sequence[Hashable] = ()) -> Counted:
    """The sum of `values` over that of `weights`, which are all 1 where there are none."""
    numbers: dict[Hashable, int] = {}
    numbered = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    own = numbered if len(numbers) < len(numbered) else []  # each its own
    return Counted(ratio(values, weights or [1.0] * len(values), clusters), Items(list(values), list(weights), own))


def score(
    model: ScoringModel,
    stage: str,
    task: str,
    split: str,
    examples: Sequence[Example],
    seed: int,
    *,
    frozen: ArtifactRef | None = None,
    max_new_tokens: int = 40,
    window_tokens: int = 0,
    judges: Judging | None = None,
) -> list[Record]:
    """The task's metrics of `model` on `examples`, each with its sample size and standard error.

    Development examples can always be scored; held-out ones only with a finished model: `frozen` is the artifact being scored
    (OLMo 2 section 2.5: the held-out suite is never run during development). `window_tokens` limits the windows for bits per
    byte, for a model trained on shorter sequences than it accepts; 0 is the model's length. `judges` asks the models that judge
    answers: without it such a task is refused. Raises UserError if held-out examples are not allowed or if there are no
    examples, and Bug if a metric is not declared.
    """
    if split == "held_out" and frozen is None:
        raise UserError(
            f"held-out examples of {task} can only be scored with a finished model",
            remedy="score a finished checkpoint artifact, or use the split dev",
        )
    if not examples:
        raise UserError(f"task {task} has no {split} examples", remedy="raise its limit")
    own_seed = derive(seed, "evaluation", task)
    if isinstance(examples[0], Asked):
        found = _asked(model, _all(Asked, examples), own_seed, judges)
    else:
        found = _counted(model, examples, own_seed, max_new_tokens, window_tokens)
    require(found)
    about: dict[str, Any] = {"stage": stage, "task": task, "split": split, "seed": seed}
    return [
        Record(**about, metric=name, items=one.items, parts=[*one.parts], scored_by=one.scored_by, **one.estimate._asdict())
        for name, one in found.items()
    ]


def _counted(
    model: ScoringModel, examples: Sequence[Example], seed: int, max_new_tokens: int, window_tokens: int
) -> dict[str, Counted]:
    first = examples[0]
    if isinstance(first, Text):
        texts = _all(Text, examples)
        bits = text_bits(model, [t.text for t in texts], window_tokens or model.max_length)
        return {"bits_per_byte": counted(bits, [len(t.text.encode()) for t in texts], families(texts))}
    if isinstance(first, Choice):
        return _choices(model, _all(Choice, examples))
    if isinstance(first, Options):
        return scored_options(model, _all(Options, examples))
    if isinstance(first, Pair):
        return _pairs(model, _all(Pair, examples))
    if isinstance(first, Passage):
        return _passages(model, _all(Passage, examples), window_tokens or model.max_length)
    if isinstance(first, Question):
        asked = _all(Question, examples)
        return {metric: counted(values, (), families(asked)) for metric, values in questions(model, asked).items()}
    return _generations(model, _all(Generation, examples), seed, max_new_tokens)


def _asked(model: ScoringModel, prompts: Sequence[Asked], seed: int, judges: Judging | None) -> dict[str, Counted]:
    """The metrics of a task of one's own whose answers are generated."""
    return {
        metric: counted(gave.values, gave.weights, families(prompts))._replace(scored_by=gave.scored_by)
        for metric, gave in answers(model, prompts, seed, judges).items()
    }


def _passages(model: ScoringModel, texts: Sequence[Passage], window: int) -> dict[str, Counted]:
    """Bits per byte; of texts that have sources also perplexity, and the means of both over sources and domains."""
    read = passages(model, texts, window)
    bits = counted([nats / math.log(2) for nats in read.nats], read.bytes, families(texts))
    documents = [text for text in texts if isinstance(text, Document) and text.source]
    if len(documents) != len(texts):
        return {"bits_per_byte": bits}
    numbers: dict[tuple[str, str], int] = {}
    groups = [numbers.setdefault((text.source, text.domain), len(numbers)) for text in documents]
    grouped = replace(bits.items, groups=groups, names=list(numbers))
    bases = {"bits_per_byte": grouped, "perplexity": replace(grouped, values=read.nats, weights=read.tokens, exp=True)}
    found = {}
    for metric, (base, over) in text_metrics(True, any(domain for _, domain in numbers)).items():
        items = replace(bases[base], over=over)
        found[metric] = Counted(estimate(items), items, () if over else parts(items))
    return found


def _all(kind: type[E], examples: Sequence[Example]) -> list[E]:
    found = [e for e in examples if isinstance(e, kind)]
    if len(found) != len(examples):
        raise TypeError("the examples of one task are all of one type")
    return found


def families(examples: Sequence[Text | Choice | Generation | Own]) -> list[str]:
    """The clusters of the standard error: the document or wording from which each example was made, or the example itself."""
    # The line end keeps the two apart: a document's family begins with its source's name.
    return [example.family or f"\n{number}" for number, example in enumerate(examples)]


def scored_options(model: ScoringModel, examples: Sequence[Options]) -> dict[str, Counted]:
    """Accuracies by the log-probability of each continuation as it is, per character, byte and token of it (its leading blank
    counts), and less that without the question (OLMES: Gu et al. 2024; OLMo 2 appendix A.1), and the mean of the right
    continuations' bits per byte. Of examples with one continuation the last alone."""
    texts = [list(zip(e.contexts, e.continuations, strict=True)) for e in examples]
    alone = [list(zip(e.alone, e.continuations, strict=True)) for e in examples if e.alone]
    asked = iter(model.logprobs([_request(model, *pair) for pairs in (*texts, *alone) for pair in pairs]))
    scores = [[next(asked) for _ in e.contexts] for e in examples]
    unconditioned = iter([[next(asked)[0] for _ in pairs] for pairs in alone])
    found: dict[str, list[float]] = {}
    for example, scored in zip(examples, scores, strict=True):
        logprobs = np.array([logprob for logprob, _, _ in scored])
        size = len(example.continuations[example.gold].encode())
        found.setdefault("answer_bits_per_byte", []).append(-logprobs[example.gold] / math.log(2) / size)
        if len(scored) == 1:
            continue
        by = {
            "acc": logprobs,
            "acc_per_char": logprobs / [len(text) for text in example.continuations],
            "acc_per_byte": logprobs / [len(text.encode()) for text in example.continuations],
            "acc_per_token": logprobs / [tokens for _, tokens, _ in scored],
        }
        if example.alone:
            by["acc_pmi"] = logprobs - next(unconditioned)
        for metric, values in by.items():
            found.setdefault(metric, []).append(float(int(np.argmax(values)) == example.gold))
    first = examples[0].primary
    return {metric: counted(found[metric]) for metric in sorted(found, key=lambda name: (name != first, name))}


def _request(model: ScoringModel, context: str, continuation: str) -> Request:
    """Encoded together and split at the boundary, as `_split` does."""
    [request] = _split(model, Choice(context, [continuation], 0))
    return request


def _split(model: ScoringModel, choice: Choice) -> list[Request]:
    """Context and continuation encoded together, then split at the boundary (OLMES).

    If a token spans the boundary, the split moves before it, for all continuations alike: each is scored whole and with the
    same context.
    """
    tokenizer = model.tokenizer
    context = tokenizer.encode(choice.context)
    whole = [tokenizer.encode(choice.context + c) for c in choice.continuations]
    boundary = min(_common(context, ids) for ids in whole)
    return [([tokenizer.eos_id, *ids[:boundary]], ids[boundary:]) for ids in whole]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _choices(model: ScoringModel, choices: Sequence[Choice]) -> dict[str, Counted]:
    scores = iter(model.logprobs([request for choice in choices for request in _split(model, choice)]))
    raw, per_character = [], []
    for choice in choices:
        logprobs = np.array([next(scores)[0] for _ in choice.continuations])
        characters = np.array([len(c) for c in choice.continuations])
        raw.append(float(logprobs.argmax() == choice.gold))
        per_character.append(float((logprobs / characters).argmax() == choice.gold))
    grouped = families(choices)
    found = {"acc": counted(raw, clusters=grouped)}
    if choices[0].per_character:
        found["acc_per_char"] = counted(per_character, clusters=grouped)
    return found


def _stop_ids(model: ScoringModel, plain: bool) -> list[int]:
    """The token that ends a turn; for plain text the end-of-text token, and those that can begin a new line."""
    tokenizer = model.tokenizer
    if not plain:
        return [turn_end_id(tokenizer)]
    # Both, because a BPE may have one token for two line ends.
    return sorted({tokenizer.eos_id, *(tokenizer.encode(text)[0] for text in ("\n", "\n\n"))})


def _response(model: ScoringModel, ids: Sequence[int], plain: bool) -> tuple[str, bool]:
    """The text of an answer and whether it is complete: ended by the end of its turn, or if `plain` of text or line."""
    end = model.tokenizer.eos_id if plain else turn_end_id(model.tokenizer)
    finished = end in ids
    text = model.tokenizer.decode(list(ids[: ids.index(end)]) if finished else list(ids))
    if plain and "\n" in text:
        return text.split("\n", 1)[0], True
    return text, finished


def _prompt_ids(model: ScoringModel, example: Generation) -> list[int]:
    if example.messages:
        return render(example.messages, model.tokenizer, add_generation_prompt=True)[0]
    return [model.tokenizer.eos_id, *model.tokenizer.encode(example.prompt)]


def _generations(model: ScoringModel, examples: Sequence[Generation], seed: int, max_new_tokens: int) -> dict[str, Counted]:
    require([*examples[0].checks, *examples[0].sampled_checks])  # fail before decoding, not after
    plain, samples = not examples[0].messages, examples[0].samples
    prompts, stops = [_prompt_ids(model, e) for e in examples], _stop_ids(model, plain)
    greedy = [_response(model, ids, plain) for ids in model.generate(prompts, max_new_tokens, stops, 0.0, seed)]
    grouped = families(examples)
    found = {
        metric: counted([verify(*e.checks[metric], *answer) for e, answer in zip(examples, greedy, strict=True)], (), grouped)
        for metric in examples[0].checks
    }
    if not samples:
        return found
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    drawn = [_response(model, ids, plain) for ids in model.generate(repeated, max_new_tokens, stops, 1.0, seed)]
    for metric in examples[0].sampled_checks:
        rewards = [verify(*examples[i // samples].sampled_checks[metric], *answer) for i, answer in enumerate(drawn)]
        # The standard error is over prompts: samples of one prompt are not independent examples.
        means = [math.fsum(rewards[i : i + samples]) / samples for i in range(0, len(rewards), samples)]
        found[metric] = counted(means, (), grouped)
    return found


def _answer_request(model: ScoringModel, pair: Pair, answer: str) -> Request:
    prompt, _ = render(pair.prompt, model.tokenizer, add_generation_prompt=True)
    whole, learnt = render([*pair.prompt, Message("assistant", answer)], model.tokenizer, add_generation_prompt=False)
    end = max((i for i, mine in enumerate(learnt) if mine), default=-1) + 1  # a template may write a line end after the turn
    return prompt, whole[len(prompt) : end]


def _pairs(model: ScoringModel, pairs: Sequence[Pair]) -> dict[str, Counted]:
    """The share of pairs whose chosen answer has the higher log-probability per token, and the mean difference in nats."""
    scores = model.logprobs([_answer_request(model, p, answer) for p in pairs for answer in (p.chosen, p.rejected)])
    per_token = [logprob / tokens for logprob, tokens, _ in scores]
    margins = [chosen - rejected for chosen, rejected in zip(per_token[::2], per_token[1::2], strict=True)]
    prompts = [tuple((m.role, m.content) for m in pair.prompt) for pair in pairs]  # pairs of one prompt are one cluster
    right = [float(m > 0) for m in margins]
    return {"accuracy": counted(right, clusters=prompts), "logprob_margin": counted(margins, clusters=prompts)}
