"""Packing changes no loss and no gradient, and batches are functions of their step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lehr.config.model import Model
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.post.batches import Batches, OfExamples, OfTokens
from lehr.post.packing import first_fit_decreasing, one_row, packed
from lehr.post.rendered import Rendered
from lehr.post.sft import Reduction, SftObjective, pad
from lehr.train.losses import cross_entropy

SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 48, "max_seq_len": 64}
CPU = torch.device("cpu")


def _model(**keys: object) -> Transformer:
    return Transformer(Model(vocab_size=90, **{**SIZES, **keys})).initialise(1)  # type: ignore[arg-type]


def _rows(count: int, seed: int = 0, longest: int = 60) -> list[Rendered]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, longest, count)
    return [Rendered(draw.integers(0, 90, n).tolist(), [False, *(draw.random(n - 1) < 0.6).tolist()]) for n in lengths]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 60))
def test_every_conversation_is_in_one_bin_and_bins_are_full_enough(lengths: list[int], room: int) -> None:
    bins = first_fit_decreasing(lengths, room)
    assert sorted(i for numbers in bins for i in numbers) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in numbers) for numbers in bins]
    assert all(load <= room or len(numbers) == 1 for load, numbers in zip(loads, bins, strict=True))
    # Nothing in a later bin would have fitted into the space that an earlier one has left.
    assert all(loads[a] + lengths[i] > room for b, numbers in enumerate(bins) for i in numbers for a in range(b))


@pytest.mark.parametrize("family", [{}, {"family": "stablelm", "norm": "layernorm"}, {"n_experts": 4, "top_k": 2}])
def test_packed_rows_have_the_loss_and_the_gradient_of_padded_ones(family: dict[str, object]) -> None:
    """Every row by itself is the third way: nothing of a neighbour reaches a conversation."""
    model, rows = _model(**family), _rows(12)
    tokens_BT, labels_BT = pad(rows, 1)
    padded = cross_entropy(model, tokens_BT, labels_BT, with_z=False)
    padded.nats.backward()
    gradient = model.embed.weight.grad
    assert gradient is not None
    expected = gradient.clone()
    model.zero_grad()
    total, tokens = 0.0, 0
    for row in packed(rows, CPU, 100):
        assert row.tokens_1N.shape[1] <= 100
        ce = cross_entropy(model, row.tokens_1N, row.labels_1N, with_z=False, documents=row.documents)
        ce.nats.backward()
        total, tokens = total + float(ce.nats.detach()), tokens + ce.tokens
    assert total == pytest.approx(float(padded.nats.detach()), rel=1e-5) and tokens == padded.tokens
    torch.testing.assert_close(model.embed.weight.grad, expected, rtol=1e-4, atol=1e-5)
    alone = [cross_entropy(model, *pad([row], 1), with_z=False).nats for row in rows]
    assert total == pytest.approx(float(torch.stack(alone).sum().detach()), rel=1e-5)


def test_sums_are_of_each_conversation() -> None:
    row = one_row(_rows(3), CPU)
    starts = np.cumsum([0, *row.documents.lengths])
    values = torch.arange(float(starts[-1]))[None]
    assert row.sums(values).tolist() == [float(sum(range(a, b))) for a, b in pairwise(starts)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("world", [2, 4])
def test_sft_does_not_depend_on_ranks(reduction: Reduction, world: int) -> None:
    model, rows = _model(), _rows(16)
    objective = SftObjective(model, rows, OfExamples(8, 16, 3), reduction=reduction)
    whole = objective.backward(1, Ranks())
    gradient = model.embed.weight.grad
    assert gradient is not None
    expected = gradient.clone() / whole.weight
    model.zero_grad()
    parts = [objective.backward(1, Ranks(rank, world)) for rank in range(world)]
    weight = sum(part.weight for part in parts)
    assert weight == whole.weight == (8.0 if reduction == "sum" else whole.extra["chat_loss"][1])
    assert sum(float(part.loss) for part in parts) == pytest.approx(float(whole.loss), rel=1e-6)
    torch.testing.assert_close(model.embed.weight.grad / weight, expected, rtol=1e-5, atol=1e-7)


def test_a_sum_counts_every_token_of_every_batch_alike() -> None:
    """The mean weighs a token of a short batch more."""
    model, rows = _model(), _rows(2)
    nats = [float(cross_entropy(model, *pad([row], 1), with_z=False).nats.detach()) for row in rows]
    for reduction, counts in (("sum", (1, 1)), ("mean", [sum(row.mask) for row in rows])):
        objective = SftObjective(model, rows, OfExamples(1, 2, 0), reduction=reduction)  # type: ignore[arg-type]
        steps = {float(s.loss) / s.weight for s in (objective.backward(step, Ranks()) for step in range(2))}
        assert sorted(steps) == pytest.approx(sorted(n / count for n, count in zip(nats, counts, strict=True)), rel=1e-5)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(1, 90), st.integers(0, 5))
def test_batches_of_tokens_hold_every_conversation_once_an_epoch(lengths: list[int], tokens: int, seed: int) -> None:
    batches = OfTokens(tokens, np.array(lengths), seed)
    for epoch in range(2):
        steps = range(batches.steps(epoch) if epoch else 0, batches.steps(epoch + 1))
        found = [batches.rows(step) for step in steps]
        assert sorted(int(i) for rows in found for i in rows) == list(range(len(lengths)))
        assert all(sum(lengths[i] for i in rows) <= tokens or len(rows) == 1 for rows in found)
    again: Batches = OfTokens(tokens, np.array(lengths), seed)
    last = batches.steps(2) - 1
    assert np.array_equal(again.rows(last), batches.rows(last))  # a step needs no step before it


def test_the_length_of_a_step_follows_from_its_epochs() -> None:
    assert OfExamples(8, 20, 0).steps(2) == 5 and OfExamples(8, 20, 0).steps(0.5) == 2
    assert OfTokens(10, np.array([5] * 20), 0).steps(1.5) == 15
