"""Preference pairs: a model's own answers, judged by verifiers."""

from __future__ import annotations

from lehr.config.base import NonNegative
from lehr.config.posttraining import Pairs
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec


class PreferencesConfig(RankedConfig):
    """Prompts are drawn from `seed` and the name `stream`."""

    pairs: Pairs
    seed: NonNegative
    stream: str


def run(config: PreferencesConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Sample the parent on training and held-out prompts."""
    from lehr.distributed.ranks import run_ranks
    from lehr.post.pairs import Sampling, sample_pairs
    from lehr.train.fit import RankContext

    context = RankContext.of(attempt, config.parallel)
    work = Sampling(context, config.pairs, inputs["parent"].folder, config.seed, config.stream)
    counts = run_ranks(config.parallel.processes, config.parallel.threads, sample_pairs, work)
    return Outcome({"pairs": counts}, processes=config.parallel.processes)


SPEC = StageSpec(
    "preferences", PreferencesConfig, {"parent": Role("checkpoint")}, "preferences", "ranked", "post-training", run
)
