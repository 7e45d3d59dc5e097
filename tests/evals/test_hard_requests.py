"""Choices that cannot be scored are refused by name; those that surprise are scored by the rules, and said."""

from __future__ import annotations

import math

import pytest
import torch

from lehr.evals.budget import shortened
from lehr.evals.hard_requests import check_choices, remarkable
from lehr.evals.score import score
from lehr.evals.task import Choice, Example, Options, Question
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from tests.evals.fakes import ByteTokenizer, TableModel
from tests.train import pieces

GOOD = Options(("Q:", "Q:"), (" a", " b"), 0)


def _question(continuations: tuple[str, ...], golds: tuple[int, ...]) -> Question:
    """Of a task of one's own."""
    return Question("Q:", continuations, golds, 1, None, "acc", "joined", "Q:")


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (Choice("Q:", [" a", ""], 0), "continuation 1 is empty"),
        (Options(("Q:",), ("",), 0), "continuation 0 is empty"),
        (Options((), (), 0), "no continuation"),
        (Options(("Q:",), (" a", " b"), 0), "1 contexts for 2 continuations"),
        (Options(("Q:", "Q:"), (" a", " b"), 0, ("Answer:",)), "1 contexts without the question for 2"),
        (Choice("Q:", [" a", " b"], 2), "number 2 of 2, counted from 0"),
        (Choice("Q:", [" a", " b"], -1), "number -1 of 2"),
        (_question((" a", ""), (0,)), "continuation 1 is empty"),
        (_question((), ()), "no continuation"),
        (_question((" a", " b"), ()), "no right answer"),
        (_question((" a", " b"), (0, 2)), "number 2 of 2, counted from 0"),
        (Options(("Q:", "Q:"), (" a", " b"), None), "number None of 2"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_scored_is_named(example: Example, says: str) -> None:
    check_choices("mine", [GOOD])
    with pytest.raises(UserError, match=f"task mine, example 1: .*{says}"):
        check_choices("mine", [GOOD, example])


def test_what_surprises_is_said_and_scored_by_its_rule() -> None:
    """Half of the probability for every byte: by the sum " a" beats " ab", and of two equal answers the first counts."""
    prefix, equal = Choice("Q:", [" ab", " a", " abc"], 1), Choice("Q:", [" b", " b"], 0)
    said = remarkable([GOOD, prefix, equal])
    assert [line.partition(":")[0] for line in said] == [
        "1 of 3 questions have an answer that is the beginning of another", "1 of 3 questions have two equal answers",
    ]  # fmt: skip
    assert remarkable([GOOD]) == []
    assert len(remarkable([_question((" a", " ab"), (0,)), _question((" b", " b"), (0,))])) == 2
    check_choices("mine", [_question((" a",), ())])  # a single one has a log-probability alone
    model = TableModel(lambda ids, token: 0.5)
    by = {r.metric: r for r in score(model, "soup", "t", "dev", [prefix, equal], seed=1)}
    assert by["acc"].items is not None and by["acc"].items.values == [1.0, 1.0]
    assert math.isclose(by["acc"].value, 1.0)


def test_a_prompt_longer_than_the_context_is_counted_and_scored_by_its_end() -> None:
    """Of 40 bytes before a two-byte answer a context of 16 has the last 15: as if the question had been these alone."""
    torch.manual_seed(0)
    small = pieces.MODEL.model_copy(update={"vocab_size": 300, "max_seq_len": 16})
    model = LanguageModel(Transformer(small).initialise(1), ByteTokenizer())  # type: ignore[arg-type]
    long, short = Choice("x" * 25 + "and what is it?", [" a", " b"], 0), Choice("What?", [" a", " b"], 0)
    assert shortened([long, short], ByteTokenizer(), 16) == 1  # type: ignore[arg-type]
    ids = ByteTokenizer().encode(long.context)
    answer = ByteTokenizer().encode(" a")
    (whole, tokens, _), (end, _, _) = model.logprobs([(ids, answer), (ids[-15:], answer)])
    assert tokens == 2 and whole == end
    logits_V = model.model(torch.tensor([[*ids, answer[0]][-16:]]))[0, -1].log_softmax(-1)
    first_V = model.model(torch.tensor([ids[-15:]]))[0, -1].log_softmax(-1)
    assert whole == pytest.approx(float(first_V[answer[0]] + logits_V[answer[1]]), rel=1e-4)
