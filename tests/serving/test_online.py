"""Rows that come and go: each gets the tokens that it would get alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from lehr.model.online import OnlineDecoder, Picked, Row, Sampling, pick
from lehr.runtime.errors import UserError
from lehr.serving.prompt_logprobs import prompt_logprobs
from tests.serving.served import TOKENIZER, tiny

MODEL = tiny(length=96)
PROMPTS = [[int(x) for x in random.Random(i).choices(range(5, TOKENIZER.vocab_size), k=1 + 7 * i % 40)] for i in range(24)]


def _alone(prompt: list[int], sampling: Sampling, length: int) -> list[Picked]:
    decoder = OnlineDecoder(MODEL.model, 0)
    row = Row(prompt, sampling)
    return [*decoder.join([row]), *(decoder.step()[0] for _ in range(length - 1))]


def _same(a: list[Picked], b: list[Picked]) -> bool:
    return [x.token for x in a] == [x.token for x in b] and all(
        abs(x.logprob - y.logprob) < 1e-4 for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whoever_else_is_there_changes_nothing(temperature: float) -> None:
    """Joins and leaves in a random order, with buffers that grow and are moved on the way."""
    chance = random.Random(7)
    decoder = OnlineDecoder(MODEL.model, 0)
    waiting = [(Row(p, Sampling(temperature, seed=i)), chance.randint(1, 50)) for i, p in enumerate(PROMPTS)]
    active: dict[Row, list[Picked]] = {}
    wanted, done = dict(waiting), dict[Row, list[Picked]]()
    while waiting or active:
        if waiting and (not active or chance.random() < 0.3):
            joining = [waiting.pop()[0] for _ in range(min(len(waiting), chance.randint(1, 3)))]
            for row, one in zip(joining, decoder.join(joining), strict=True):
                active[row] = [one]
        else:
            for row, one in zip(list(decoder.rows), decoder.step(), strict=True):
                active[row].append(one)
        for row in [row for row, got in active.items() if len(got) >= wanted[row]]:
            decoder.leave(row)
            done[row] = active.pop(row)
    assert len(done) == len(PROMPTS) and not decoder.rows
    for row, got in done.items():
        assert _same(got, _alone(list(row.prompt), row.sampling, wanted[row]))
    assert decoder._buffers.keys.shape[3] <= 2 * 96


def test_greedy_answers_are_those_of_generate() -> None:
    expected = MODEL.generate(PROMPTS, 20, stop_ids=[TOKENIZER.vocab_size - 1])
    for prompt, ids in zip(PROMPTS, expected, strict=True):
        assert [one.token for one in _alone(prompt, Sampling(), len(ids))] == ids


def test_log_probabilities_are_those_of_a_forward_pass() -> None:
    for sampling in (Sampling(0.5, seed=3, top=4), Sampling(0.0, top=1), Sampling(2.0, top_p=0.3, seed=1)):
        got = _alone(PROMPTS[5], sampling, 12)
        ids = PROMPTS[5] + [one.token for one in got]
        scored = prompt_logprobs(MODEL.model, ids, sampling.temperature or 1.0, sampling.top)[-12:]
        assert _same(got, [one.picked for one in scored])
        assert all(len(one.top) == sampling.top for one in got)
        assert all(one.top[0][1] >= one.logprob - 1e-5 for one in got if one.top)


def test_samples_have_the_models_frequencies() -> None:
    logits_V = torch.tensor([2.0, 1.0, 0.0, -1.0, -50.0])
    rows = [Row([1], Sampling(temperature=2.0, seed=i)) for i in range(20_000)]
    counts = torch.bincount(torch.tensor([p.token for p in pick(logits_V.expand(len(rows), -1), rows)]), minlength=5)
    expected = torch.softmax(logits_V / 2.0, 0)
    assert torch.allclose(counts / len(rows), expected, atol=0.012) and counts[4] == 0


def test_top_p_leaves_the_smallest_set_out_of_which_it_samples() -> None:
    logits_V = torch.log(torch.tensor([0.2, 0.5, 0.05, 0.25]))

    def seen(top_p: float) -> set[int]:
        rows = [Row([1], Sampling(1.0, top_p, seed=i)) for i in range(400)]
        return {p.token for p in pick(logits_V.expand(400, -1), rows)}

    assert seen(0.4) == {1} and seen(0.6) == {1, 3} and seen(0.94) == {0, 1, 3} and seen(1.0) == {0, 1, 2, 3}
    mixed = [Row([1], replace(Sampling(1.0, 0.4, seed=i), top_p=0.4 if i % 2 else 1.0)) for i in range(400)]
    got = [p.token for p in pick(logits_V.expand(400, -1), mixed)]
    assert set(got[1::2]) == {1} and set(got[::2]) == {0, 1, 2, 3}


def test_a_model_that_diverged_says_so() -> None:
    with pytest.raises(UserError, match="not finite"):
        pick(torch.full((1, 4), float("nan")), [Row([1], Sampling())])
