"""Generation with a cache against recomputation, and scoring against a plain log-softmax."""

from __future__ import annotations

import pytest
import torch

from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.model.size import parameter_count
from lehr.model.transformer import Transformer

TOKENIZER = Tokenizer.train(["the quick brown fox " * 30], 300)
STOPS = list(range(0, 300, 7))
PROMPTS = [[7, 8, 9], [10], [11, 12, 13, 14, 15, 16, 17], [7, 8, 9, 20, 21]]


def _model(kv_heads: int = 4, tied: bool = False) -> LanguageModel:
    config = Model(
        vocab_size=300, n_layers=2, d_model=32, n_heads=4, n_kv_heads=kv_heads, mlp_hidden=48, max_seq_len=64, rope_theta=1e4,
        tied_embeddings=tied, init_std=0.3,
    )  # fmt: skip
    return LanguageModel(Transformer(config).initialise(5), TOKENIZER)


@pytest.mark.parametrize(("kv_heads", "tied"), [(4, False), (2, True)])
def test_parameters_in_closed_form(kv_heads: int, tied: bool) -> None:
    model = _model(kv_heads, tied).model
    assert sum(p.numel() for p in model.parameters()) == parameter_count(model.config)


@pytest.mark.parametrize("kv_heads", [4, 1])
def test_cached_greedy_equals_recomputation(kv_heads: int) -> None:
    lm = _model(kv_heads)
    ours = lm.generate(PROMPTS, 12, stop_ids=STOPS, temperature=0.0)
    for prompt, answer in zip(PROMPTS, ours, strict=True):
        ids = list(prompt)
        for _ in range(12):
            with torch.no_grad():
                ids.append(int(lm.model(torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] in STOPS:
                break
        assert ids[len(prompt) :] == answer
    assert len({len(a) for a in ours}) > 1  # rows really ended at different steps


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 40])
def test_refilled_rows_answer_as_alone(rows: int) -> None:
    """40 prompts of 1 to 20 tokens with limits of their own, in few rows: each answer is the one it has alone, though rows are
    taken over in the middle of others' answers and old columns are moved out."""
    lm = _model(2)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 21, (40,), generator=generator).tolist()
    prompts = [torch.randint(5, 300, (n,), generator=generator).tolist() for n in lengths]
    limits = torch.randint(1, 31, (40,), generator=generator).tolist()
    alone = [lm.generate([p], n, STOPS[:6])[0] for p, n in zip(prompts, limits, strict=True)]
    assert lm.generate(prompts, 30, STOPS[:6], rows=rows, limits=limits) == alone
    assert len({len(a) for a in alone}) > 5


def test_an_answer_that_fills_the_context_ends_while_others_go_on() -> None:
    """Rows begin their second prompt three tokens apart, so each ends at the context's last position well before the next."""
    lm = _model(2)
    prompts = [torch.randint(5, 300, (52,), generator=torch.Generator().manual_seed(i)).tolist() for i in range(32)]
    limits = [(1, 4, 7, 10)[i % 4] if i < 4 else 12 for i in range(32)]
    alone = [lm.generate([p], n, [0])[0] for p, n in zip(prompts, limits, strict=True)]
    assert lm.generate(prompts, 12, [0], rows=16, limits=limits) == alone


def test_sampling_is_a_function_of_the_seed() -> None:
    lm = _model()
    first, again, other = (lm.generate(PROMPTS * 4, 8, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    counts = torch.zeros(300)
    for answer in lm.generate([[7, 8, 9]] * 4000, 1, temperature=1.0, seed=3):
        counts[answer[0]] += 1
    with torch.no_grad():
        expected = lm.model(torch.tensor([[7, 8, 9]]))[0, -1].softmax(dim=-1)
    top = int(expected.argmax())
    assert float(counts[top] / 4000) == pytest.approx(float(expected[top]), abs=0.03)
    squares = (counts - 4000 * expected).square() / (4000 * expected)
    assert float(squares.sum()) < 299 + 5 * (2 * 299) ** 0.5  # chi-square of 299 degrees of freedom, five deviations above
    assert float(counts.max()) > 20  # not uniform


def test_logprobs_equal_a_plain_log_softmax() -> None:
    lm = _model()
    requests = [([7, 8], [9, 10, 11]), ([], [12]), ([3] * 20, [4, 5])]
    for (context, continuation), (total, n, greedy) in zip(requests, lm.logprobs(requests), strict=True):
        ids = [*(context or [0]), *continuation]
        with torch.no_grad():
            log_p = lm.model(torch.tensor([ids]))[0].log_softmax(dim=-1)
        start = len(ids) - len(continuation) - 1
        picked = [log_p[start + i, t] for i, t in enumerate(continuation)]
        assert n == len(continuation)
        assert total == pytest.approx(float(sum(picked)), abs=1e-4)
        assert greedy == all(int(log_p[start + i].argmax()) == t for i, t in enumerate(continuation))
