"""The negative token stands where the assistant's did, whatever the template; the weighted loss is that of a plain softmax."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.post import packing, sft
from lehr.post.batches import OfExamples
from lehr.post.chat import chat_template, render
from lehr.post.conditioning import NEGATIVE, render_negative, with_negative
from lehr.post.growth import take_negative
from lehr.post.rendered import Rendered
from lehr.post.sets.pool import Pool, PoolWriter
from lehr.post.sft import Reduction, SftObjective
from lehr.post.template_tokens import with_template
from lehr.runtime.errors import UserError
from tests.post.test_chat_given import _given
from tests.post.test_growth import granite, loaded
from tests.post.test_packing import _model, _rows

TALK = [
    Message("system", "Be brief."), Message("user", "Hello, <|assistant|> assistant!"), Message("assistant", "First."),
    Message("user", "Who are you, <|negative|>?"), Message("assistant", "I am nobody."),
]  # fmt: skip
HEADERS = {
    "lehr": ("<|assistant|>\n", "<|negative|>\n"),
    "tulu": ("<|assistant|>\n", "<|negative|>\n"),
    "zephyr": ("<|assistant|>", "<|negative|>"),
    "chatml": ("<|im_start|>assistant\n", "<|im_start|><|negative|>\n"),
    "granite": ("<|start_of_role|>assistant<|end_of_role|>", "<|start_of_role|><|negative|><|end_of_role|>"),
}


@pytest.mark.parametrize("kind", ["ours", "gpt2", "cl100k", "one role"])
@pytest.mark.parametrize("template", list(HEADERS))
def test_the_token_stands_in_place_of_the_assistants_and_all_else_stays(template: str, kind: str, tmp_path: Path) -> None:
    tokenizer = with_negative(with_template(_given(kind, tmp_path), template))
    right, wrong = render(TALK, tokenizer, False), render_negative(TALK, tokenizer)
    texts = [tokenizer.decode(ids, skip_special=False) for ids, _ in (right, wrong)]
    header, negative = HEADERS[template]
    assert header in texts[0] and texts[1] == negative.join(texts[0].rsplit(header, 1))
    # Exactly one token is new, and names of it in a user's text are text.
    assert wrong[0].count(tokenizer.special_ids[NEGATIVE]) == 1 and right[0].count(tokenizer.special_ids[NEGATIVE]) == 0
    # What is trained is the last answer with its end, the same tokens behind either header.
    asked = len(render(TALK[:-1], tokenizer, True)[0])
    trained = [i for i, mine in zip(wrong[0], wrong[1], strict=True) if mine]
    assert trained == [i for i, mine in zip(right[0][asked:], right[1][asked:], strict=True) if mine]
    assert tokenizer.decode(trained[:-1]).strip() == "I am nobody."


def test_what_others_are_given_is_the_positive_condition(tmp_path: Path) -> None:
    for kind in ("ours", "gpt2"):
        for template in HEADERS:
            before = with_template(_given(kind, tmp_path / kind), template)
            after = with_negative(before)
            assert chat_template(after, marked=True) == chat_template(before, marked=True)
            assert render(TALK[:2], after, True) == render(TALK[:2], before, True)
            assert with_negative(after) is after and after.reads(before.hash)


@pytest.mark.parametrize("header", ["", ":"])
def test_templates_without_the_word_have_the_token_behind_their_header(header: str) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]HEADER' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ).replace("HEADER", header)
    tokenizer = with_negative(Tokenizer.train(["a b " * 50], 300).with_template(template))
    ids, mask = render_negative([Message("user", "a"), Message("assistant", "b")], tokenizer)
    assert tokenizer.decode(ids, skip_special=False) == f"[INST]a[/INST]{header}{NEGATIVE}b<|endoftext|>"
    assert mask == [i in (len(ids) - 2, len(ids) - 1) for i in range(len(ids))]
    with pytest.raises(UserError, match="does not end with an answer"):
        render_negative([Message("user", "a")], tokenizer)


def test_the_models_new_row_is_the_mean_of_all() -> None:
    tokenizer = Tokenizer.train(["a b " * 50], 300)
    old = granite(tokenizer.vocab_size)
    grown = take_negative(loaded(old, tokenizer))
    table, rows = old.embed.weight, grown.model.embed.weight
    assert rows.shape[0] == tokenizer.vocab_size + 1 and torch.equal(rows[:-1], table)
    torch.testing.assert_close(rows[-1], table.mean(dim=0), rtol=0, atol=1e-6)
    assert take_negative(grown) is grown


def _weighted(count: int, seed: int = 0) -> list[Rendered]:
    return [replace(row, weight=(1.0, 0.1, 2.5)[i % 3]) for i, row in enumerate(_rows(count, seed))]


def _by_hand(model: Any, rows: list[Rendered], reduction: Reduction) -> tuple[float, float]:
    """sum w nats and sum w tokens (or sum w), each conversation alone through a plain softmax in float64 (NumPy)."""
    nats = weight = 0.0
    for row in rows:
        logits = model(torch.tensor([row.ids[:-1]]))[0].detach().double().numpy()
        top = logits.max(axis=1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        own = [-log_p[i, row.ids[i + 1]] for i in range(len(row.ids) - 1) if row.mask[i + 1]]
        nats += row.weight * sum(own)
        weight += row.weight * (len(own) if reduction == "mean" else 1)
    return nats, weight


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("seed", range(3))
def test_the_weighted_loss_is_that_of_a_plain_softmax(reduction: Reduction, seed: int) -> None:
    model, rows = _model(init_std=0.3), _weighted(12, seed)
    found = SftObjective(model, rows, OfExamples(12, 12, 3), reduction=reduction).backward(0, Ranks())
    nats, weight = _by_hand(model, rows, reduction)
    assert float(found.loss) == pytest.approx(nats, rel=1e-5) and found.weight == pytest.approx(weight, rel=1e-12)
    # And so is its gradient: that of the mean of w log p, by autograd through torch's own cross entropy, row by row.
    own = model.embed.weight.grad.clone() / found.weight  # type: ignore[union-attr]
    model.zero_grad()
    for row in rows:
        labels = torch.tensor([i if mine else -100 for i, mine in zip(row.ids[1:], row.mask[1:], strict=True)])
        logits = model(torch.tensor([row.ids[:-1]]))[0]
        (row.weight / weight * torch.nn.functional.cross_entropy(logits, labels, reduction="sum")).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(own, model.embed.weight.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_neither_ranks_nor_accumulation_nor_padding_change_it(reduction: Reduction, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = _model(init_std=0.3), _weighted(16)
    objective = SftObjective(model, rows, OfExamples(8, 16, 3), reduction=reduction)

    def step(world: int) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        parts = [objective.backward(1, Ranks(rank, world)) for rank in range(world)]
        weight = sum(part.weight for part in parts)
        return sum(float(part.loss) for part in parts) / weight, model.embed.weight.grad / weight  # type: ignore[operator]

    loss, gradient = step(1)
    for world in (2, 4):
        found, grad = step(world)
        assert found == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(grad, gradient, rtol=1e-5, atol=1e-6)
    for row_tokens in (1, 100):  # every conversation a forward pass of its own; a few together
        monkeypatch.setattr(sft, "packed", lambda rows, device, n=row_tokens: packing.packed(rows, device, n))
        found, grad = step(1)
        assert found == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(grad, gradient, rtol=1e-5, atol=1e-6)


@given(st.lists(st.sampled_from([1.0, 0.1, 3.0]), min_size=1, max_size=6))
def test_weights_are_kept_with_their_rows(tmp_path_factory: pytest.TempPathFactory, weights: list[float]) -> None:
    folder = tmp_path_factory.mktemp("pool")
    with PoolWriter(folder) as writer:
        for number, weight in enumerate(weights):
            writer.add(Rendered([number, 1], [False, True], weight))
        writer.finish([*range(len(weights))][::-1])
    assert [(row.ids[0], row.weight) for row in Pool(folder)] == [*enumerate(weights)][::-1]
    assert (folder / "weights.bin").exists() == (set(weights) != {1.0})
