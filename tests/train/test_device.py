"""No GPU is here. What can be shown without one: on a pretended one, every operation finds all its tensors in one place.

PyTorch's fake tensors have a device and no numbers, and refuse to mix devices. Backward passes need a real device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.model.decode import Decoder
from lehr.model.transformer import Transformer
from lehr.post.grpo import GrpoSettings, advantages, grpo_token_loss
from lehr.post.packing import one_row
from lehr.post.preference import answer_logprobs
from lehr.post.sft import Rendered, pad
from lehr.train.losses import IGNORE, cross_entropy, token_logprobs
from lehr.train.state import TrainState

CUDA = torch.device("cuda", 0)
MODEL = Model(family="granite", vocab_size=64, n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, mlp_hidden=24, max_seq_len=16)
ROWS = [Rendered([1, 2, 3, 4], [False, True, True, True]), Rendered([1, 2, 3], [False, True, True])]


@contextmanager
def _pretended() -> Iterator[Transformer]:
    """A model on a pretended GPU; what is made without a device lies on the host."""
    with FakeTensorMode(shape_env=ShapeEnv()):
        with torch.device(CUDA):
            model = Transformer(MODEL)
        yield model


def test_the_pretence_finds_a_forgotten_device() -> None:
    with _pretended() as model, pytest.raises(RuntimeError, match="device"):
        model.hidden(torch.zeros(2, 8, dtype=torch.int64))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pretraining_stays_on_the_device(precision: str) -> None:
    with _pretended() as model:
        state = TrainState.fresh(model, Optim(lr=1e-3), "bf16" if precision == "bf16" else "fp32")
        tokens_BT = torch.zeros(2, 16, dtype=torch.int64, device=CUDA)
        ce = cross_entropy(model, tokens_BT, tokens_BT, with_z=True, begins_BT=tokens_BT == 0, whole=True)
        state.optimizer.zero()
        state.optimizer.collect()
        state.optimizer.update(1e-3)
        assert {t.device for t in (ce.nats, ce.z, *state.whole.tensors().values()) if t.dim()} <= {CUDA}


def test_chat_training_stays_on_the_device() -> None:
    settings = GrpoSettings(1, 2, 1.0, 4, 0.2, 0.2, 0.1)
    with _pretended() as model:
        tokens_BT, labels_BT = pad(ROWS, 0, model.cos.device)
        assert cross_entropy(model, tokens_BT, labels_BT, with_z=False, whole=True).nats.device == CUDA
        assert answer_logprobs(model, one_row(ROWS, CUDA))[0].device == CUDA
        logprobs_BT = token_logprobs(model, tokens_BT, labels_BT)
        advantages_B = advantages(torch.zeros(1, 2)).reshape(-1).to(logprobs_BT.device)
        loss_BT, _ = grpo_token_loss(logprobs_BT, logprobs_BT.detach(), logprobs_BT, advantages_B, settings)
        assert (loss_BT * (labels_BT != IGNORE)).sum().device == CUDA


def test_generation_stays_on_the_device() -> None:
    with _pretended() as model:
        decoder = Decoder(model, [[1, 2, 3], [4, 5]], [4, 4], [0], 0)
        cache, ids_B = decoder._prefill([0, 1], 3, 8, lambda logits_BV: logits_BV.argmax(dim=-1))
        assert model.hidden(ids_B[:, None], cache).device == cache.keys.device == CUDA
