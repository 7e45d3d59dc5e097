"""Log-probabilities of continuations: against a plain loop, and the same to the bit in whatever company they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import torch

from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model import score
from lehr.model.generate import LanguageModel
from lehr.model.score_plan import in_order, path_of, shares
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError

TOKENIZER = Tokenizer.train(["the quick brown fox " * 30], 300)
LENGTH = 400  # more than three units, and the third begins in the middle of some prompts
Requests = list[tuple[list[int], list[int]]]


def _model(family: Any = "olmo2", **changes: Any) -> LanguageModel:
    sizes = {"vocab_size": 300, "n_layers": 2, "d_model": 192, "n_heads": 6, "n_kv_heads": 3, "mlp_hidden": 320}
    experts = {"n_experts": 5, "top_k": 2} if family == "granitemoe" else {}
    config = Model(family=family, max_seq_len=LENGTH, init_std=0.1, **{**sizes, **experts, **changes})
    return LanguageModel(Transformer(config).initialise(5), TOKENIZER)


def _requests(seed: int = 0) -> Requests:
    """Questions after one of two preludes, with letters and with answers of several tokens, one the beginning of another;
    running text; a prompt that is too long; a continuation longer than the model; an empty context, an empty continuation."""
    random = Random(seed)

    def some(n: int) -> list[int]:
        return [random.randrange(5, 300) for _ in range(n)]

    found: Requests = []
    for prelude in (some(270), some(131)):
        for _ in range(4):
            asked = [0, *prelude, *some(random.randrange(1, 50))]
            found += [(asked, [letter]) for letter in (40, 41, 42, 43)]
            found += [(asked, some(n)) for n in (2, 7, 1)]
            found.append((asked, [*found[-2][1], 9]))
    found += [([0], some(n)) for n in (5, 128, 129, 300, LENGTH)]
    found += [(some(LENGTH + 30), some(3)), (some(9), some(LENGTH + 20)), ([], some(4)), ([], [7]), (some(20), []), ([], [])]
    return found


def _plain(lm: LanguageModel, context: list[int], continuation: list[int]) -> tuple[float, int, bool]:
    """The whole sequence, alone, in fp64."""
    ids = [*(context or [TOKENIZER.eos_id]), *continuation][-(LENGTH + 1) :]
    n = min(len(continuation), len(ids) - 1)
    if not n:
        return 0.0, 0, True
    with torch.no_grad():
        logits_NV = lm.model(torch.tensor([ids[:-1]]))[0, -n:]
    wanted_N = torch.tensor(ids[-n:])
    picked_N = logits_NV.double().log_softmax(-1).gather(1, wanted_N[:, None])
    return float(picked_N.sum()), n, bool((logits_NV.argmax(-1) == wanted_N).all())


@pytest.mark.parametrize("family", ["olmo", "olmo2", "granite", "granitemoe", "stablelm"])
@pytest.mark.parametrize("kv_heads", [6, 2])
def test_equal_to_a_plain_loop(family: str, kv_heads: int) -> None:
    changes = {"rope_fraction": 0.5} if family == "stablelm" else {}
    lm = _model(family, n_kv_heads=kv_heads, tied_embeddings=kv_heads == 2, **changes)
    asked = _requests()
    greedy = lm.generate([asked[0][0]], 3)[0]
    asked.append((asked[0][0], greedy))
    for (context, continuation), (total, n, best) in zip(asked, lm.logprobs(asked), strict=True):
        want, tokens, likeliest = _plain(lm, context, continuation)
        assert (n, best) == (tokens, likeliest)
        assert total == pytest.approx(want, rel=1e-5, abs=1e-5)
    assert lm.logprobs(asked)[-1][2], "what greedy decoding writes is the likeliest"


@pytest.mark.parametrize(
    ("family", "dtype"), [("olmo2", torch.float32), ("granitemoe", torch.float32), ("olmo", torch.bfloat16)]
)
def test_the_same_bits_in_any_company(family: str, dtype: torch.dtype) -> None:
    """One, seven, 64 at a time, in other orders, a few of them alone, divided among threads. The wide MLP is one whose
    product's bits change with its rows and with the number of threads (on the processors where this was measured)."""
    lm = _model(family, mlp_hidden=2048 if family == "olmo2" else 320)
    lm.model.to(dtype)
    asked = _requests()
    whole = lm.logprobs(asked)
    for size in (1, 7, 64):
        assert [one for at in range(0, len(asked), size) for one in lm.logprobs(asked[at : at + size])] == whole, size
    random, before = Random(1), torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            chosen = random.sample(range(len(asked)), random.randrange(2, len(asked)))
            assert lm.logprobs([asked[i] for i in chosen]) == [whole[i] for i in chosen]
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)


def test_what_is_shared_is_computed_once() -> None:
    """100 questions of four letters and four answers after one prelude: its two units once, each question once, and of the
    answers all tokens but the last."""
    lm, seen = _model(), list[int]()
    lm.model.embed.register_forward_hook(lambda _module, given, _out: seen.append(given[0].numel()))
    random = Random(2)
    prelude = [random.randrange(300) for _ in range(256)]
    asked: Requests = []
    for number in range(100):
        question = [*prelude, 5 + number, *(random.randrange(300) for _ in range(19))]
        asked += [(question, [letter]) for letter in (1, 2, 3, 4)]
        asked += [(question, [letter, 5, 6]) for letter in (1, 2, 3, 4)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lm.logprobs(Random(3).sample(asked, len(asked)))
    finally:
        torch.set_num_threads(threads)
    assert sum(seen) == 256 + 100 * (20 + 4 * 2)
    assert max(seen) == 128


def test_a_walk_holds_one_path_however_many_requests_hang_on_it() -> None:
    lm, most = _model(), list[int]()
    paths = lm._paths(_requests() + [([0] * 200, [5, 6, n]) for n in range(250)])
    walk = score._Walk(lm.model, 512)
    for i in in_order(paths):
        walk.scored(paths[i])
        most.append(len(walk.held))
    assert max(most) <= 5 and walk.cache.keys.shape[1:4:2] == (1, 512)


def test_shares_are_even_and_keep_answers_of_a_question_together() -> None:
    random = Random(4)
    asked: Requests = []
    for _ in range(60):
        question = [random.randrange(300) for _ in range(random.randrange(150, 250))]
        asked += [(question, [letter, 9]) for letter in (1, 2, 3, 4)]
    paths = [path_of(pair, 0, LENGTH, 128) for pair in random.sample(asked, len(asked))]
    for parts in (1, 2, 3, 7):
        found = shares(paths, parts)
        assert sorted(i for share in found for i in share) == list(range(len(paths)))
        assert max(map(len, found)) - min(map(len, found)) <= 0.35 * len(paths) / parts + 4
        units = [{paths[i].units[: paths[i].contexts] for i in share} for share in found]
        assert sum(map(len, units)) == 60, "no question is in two shares"
    assert shares([], 3) == [[], [], []] and [len(s) for s in shares(paths[:1], 3)].count(0) == 2


def test_probabilities_that_are_not_finite_are_named() -> None:
    lm = _model()
    with torch.no_grad():
        lm.model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr]
    for requests in (_requests()[:1], _requests()):
        with pytest.raises(UserError, match="not finite"):
            lm.logprobs(requests)


@dataclass(frozen=True)
class _Asked:
    requests: Requests


def _on_rank(ranks: Ranks, asked: _Asked) -> list[tuple[float, int, bool]]:
    return SharedModel(_model(), ranks).logprobs(asked.requests)


@pytest.mark.long
def test_the_same_bits_on_any_number_of_ranks() -> None:
    asked, before = _requests(), torch.get_num_threads()
    try:
        alone = run_ranks(1, 1, _on_rank, _Asked(asked))
        assert alone == _model().logprobs(asked)
        assert run_ranks(2, 2, _on_rank, _Asked(asked)) == alone
        assert run_ranks(3, 1, _on_rank, _Asked(asked)) == alone
    finally:
        torch.set_num_threads(before)


@pytest.mark.long
def test_the_same_bits_at_every_batch_size() -> None:
    """1 to 64 at a time, each in an order of its own, on two threads."""
    lm, asked, random, before = _model(mlp_hidden=2048), _requests(), Random(7), torch.get_num_threads()
    whole = lm.logprobs(asked)
    torch.set_num_threads(2)
    try:
        for size in range(1, 65):
            order = random.sample(range(len(asked)), len(asked))
            for part in (order[at : at + size] for at in range(0, len(order), size)):
                assert lm.logprobs([asked[i] for i in part]) == [whole[i] for i in part], size
    finally:
        torch.set_num_threads(before)
