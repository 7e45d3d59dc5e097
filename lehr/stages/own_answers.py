"""Replayed conversations, answered anew by the model that is to be trained on them."""

from __future__ import annotations

from lehr.config.base import NonNegative, Positive
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec


class OwnAnswersConfig(RankedConfig):
    """`sets` are those that are answered anew; the other rows stay as they are."""

    sets: list[str]
    max_new_tokens: Positive
    seed: NonNegative


def run(config: OwnAnswersConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the rows. Raises UserError as `answer_on_rank` does."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.distributed.ranks import run_ranks
    from lehr.post.own_answers import Answering, answer_on_rank
    from lehr.train.fit import RankContext

    tokenizer = Tokenizer.load(inputs["rows"].folder)
    tokenizer.save(attempt.out)
    work = Answering(
        RankContext.of(attempt, config.parallel), inputs["parent"].folder, inputs["rows"].folder, config.sets,
        config.max_new_tokens, config.seed,
    )  # fmt: skip
    sets = run_ranks(config.parallel.processes, config.parallel.threads, answer_on_rank, work)
    counts = {
        name: {"rows": s["drawn"], "tokens": s["tokens"], "trained_tokens": s["trained_tokens"]} for name, s in sets.items()
    }
    rows = sum(s["drawn"] for s in sets.values())
    return Outcome({"sets": counts, "rows": rows, "tokenizer": tokenizer.hash}, processes=config.parallel.processes)


SPEC = StageSpec(
    "own_answers",
    OwnAnswersConfig,
    {"parent": Role("checkpoint"), "rows": Role("conversations")},
    "conversations",
    "ranked",
    "post-training",
    run,
)
