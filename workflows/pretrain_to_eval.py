"""From documents to a scored chat model: the whole of a recipe as one Flyte workflow.

pyflyte run workflows/pretrain_to_eval.py pretrain_to_eval --recipe recipes/tiny/olmo2.yaml --out runs/tiny-olmo2
"""

from __future__ import annotations

from functools import partial

from flytekit import map_task, workflow

from tasks.data import documents, shards, tokenizer
from tasks.evaluate import evaluate, export
from tasks.post import dpo, pairs, rlvr, sft
from tasks.run import open_run, publish
from tasks.train import anneal, ramp, soup, stage1


@workflow
def pretrain_to_eval(recipe: str = "recipes/tiny/olmo2.yaml", out: str = "", overrides: list[str] = []) -> str:  # noqa: B006
    """`recipe` is a path, `out` the run's folder (default runs/NAME), `overrides` like `stage1.tokens=200000`.

    Every stage finds its artifact again if it has been made; the path of the report is returned.
    """
    opened = open_run(recipe=recipe, out=out, overrides=overrides)
    run = opened.run

    corpus = documents(run=run)
    vocabulary = tokenizer(run=run, corpus=corpus)
    tokens = shards(run=run, corpus=corpus, tokenizer=vocabulary)

    base = stage1(run=run, shards=tokens, corpus=corpus, tokenizer=vocabulary)
    base_scores = evaluate(run=run, checkpoint=base, corpus=corpus)
    ramped = ramp(run=run, parent=base, shards=tokens, corpus=corpus, tokenizer=vocabulary)
    ramped_scores = evaluate(run=run, checkpoint=ramped, corpus=corpus)
    annealed = map_task(partial(anneal, run=run, parent=ramped, shards=tokens, corpus=corpus, tokenizer=vocabulary))(
        index=opened.anneals
    )
    annealed_scores = map_task(partial(evaluate, run=run, corpus=corpus, pairs=None))(checkpoint=annealed)
    souped = soup(run=run, parent=ramped, ingredients=annealed)
    souped_scores = evaluate(run=run, checkpoint=souped, corpus=corpus)

    tuned = sft(run=run, parent=souped, shards=tokens)
    preferences = pairs(run=run, parent=tuned)
    tuned_scores = evaluate(run=run, checkpoint=tuned, corpus=corpus, pairs=preferences)
    preferred = dpo(run=run, parent=tuned, pairs=preferences)
    preferred_scores = evaluate(run=run, checkpoint=preferred, corpus=corpus, pairs=preferences)
    verified = rlvr(run=run, parent=preferred)
    verified_scores = evaluate(run=run, checkpoint=verified, corpus=corpus, pairs=preferences)

    model = export(run=run, checkpoint=verified, shards=tokens)
    return publish(
        run=run,
        data=[corpus, vocabulary, tokens],
        trained=[base, ramped],
        annealed=annealed,
        base=[souped, tuned],
        pairs=preferences,
        tuned=[preferred, verified, model],
        scores=[base_scores, ramped_scores],
        annealed_scores=annealed_scores,
        tuned_scores=[souped_scores, tuned_scores, preferred_scores, verified_scores],
    )
