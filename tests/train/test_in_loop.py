"""Evaluation during training: the numbers of the same call afterwards to the bit, and training that does not notice it."""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.transformer import Transformer
from lehr.train.fit import fit
from lehr.train.in_loop import ProseEvaluator
from lehr.train.loop import Plan
from lehr.train.state import TrainState

sys.path.insert(0, str(Path(__file__).parent))
import pieces

# Its MLP is one whose products' last bits depend on their number of rows and threads, where this was measured.
MODEL = Model(vocab_size=300, n_layers=2, d_model=128, n_heads=2, n_kv_heads=2, mlp_hidden=2048, max_seq_len=256, init_std=0.1)
STEPS, EVERY = 8, 4


def _held_back(folder: Path) -> None:
    """Documents of 40 to 350 words, and a tokenizer."""
    words = random.Random(1).choices(["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs"], k=400)
    folder.mkdir()
    rows = [{"id": f"d{n}", "source": f"s{n % 2}", "text": " ".join(words[n : n * 40 + 40])} for n in range(9)]
    with gzip.open(folder / "dev.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    Tokenizer.train([row["text"] for row in rows], 300).save(folder)


def _seen(state: TrainState) -> list[Any]:
    """All that an evaluation must leave as it was."""
    p = list(state.model.parameters())
    return [
        [x.detach().clone() for x in p], [None if x.grad is None else x.grad.clone() for x in p],
        [m.training for m in state.model.modules()], [x.requires_grad for x in p], torch.get_rng_state(), random.getstate(),
        np.random.get_state()[1].tolist(), torch.get_num_threads(), torch.is_grad_enabled(), state.step, state.tokens,  # type: ignore[index]
    ]  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return all(map(_equal, a, b)) and len(a) == len(b) if isinstance(a, list) else bool(a == b)


def trained(ranks: Ranks, folder: Path, corpus: Path, evaluated: bool) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The log of eight steps, without times, and the weights; with an evaluation after every fourth or without."""
    state = TrainState.fresh(Transformer(MODEL).initialise(1), pieces.OPTIM)
    inner = ProseEvaluator(corpus, corpus, 0, 200)

    def evaluator(state: TrainState, ranks: Ranks) -> dict[str, float]:
        before = _seen(state)
        found = inner(state, ranks)
        assert _equal(_seen(state), before)
        return found

    plan = Plan(STEPS, lambda step, tokens: 3e-3, lambda step, tokens: 1.0, 4, EVERY if evaluated else 0)
    own = folder if ranks.first else folder / f"rank-{ranks.rank}"
    fit(pieces.context(own, ranks.world), ranks, state, pieces.Copying(state.model), plan, evaluator if evaluated else None)
    if not ranks.first:
        return [], {}
    rows = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    return rows, {name: x.clone() for name, x in state.weights().items()}


@pytest.mark.parametrize(("world", "threads"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.long)])
def test_in_loop_is_offline_to_the_bit_and_training_does_not_notice(world: int, threads: int, tmp_path: Path) -> None:
    corpus, before = tmp_path / "corpus", torch.get_num_threads()
    _held_back(corpus)
    try:
        log, weights = run_ranks(world, threads, trained, tmp_path / "with", corpus, True)
        plain, same = run_ranks(world, threads, trained, tmp_path / "without", corpus, False)
        assert weights.keys() == same.keys() and all(torch.equal(weights[name], same[name]) for name in same)
        steps = [{k: v for k, v in row.items() if k != "seconds"} for row in log if "loss" in row]
        assert steps == [{k: v for k, v in row.items() if k != "seconds"} for row in plain] and len(steps) == STEPS

        torch.set_num_threads(1)
        model = Transformer(MODEL)
        model.load_state_dict(weights)
        offline = ProseEvaluator(corpus, corpus, 0, 200)(TrainState.fresh(model, pieces.OPTIM), Ranks())
        measured = [row for row in log if "dev_bits_per_byte" in row]
        assert [row["step"] for row in measured] == [EVERY, STEPS]
        assert {name: measured[-1][name] for name in offline} == offline and len(offline) == 3
        assert all(row["evaluation_seconds"] > 0 for row in measured)
    finally:
        torch.set_num_threads(before)
