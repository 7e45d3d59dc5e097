"""Growth exponents of OLMo 2 section 3.2: the measure by hand, and the report's own result."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional as F

from lehr.analysis.initialisation import NEW, OLD, Growth, growth, nearer_to_zero, schemes, sqrt_width_power
from lehr.cli.diagnose import _documents, init
from lehr.model.transformer import Transformer


@pytest.mark.long
def test_exponents_by_hand() -> None:
    """Activations block by block, gradients by finite differences: shifting all positions along one axis changes a
    document's mean loss by the sum of that axis' gradients over positions."""
    torch.manual_seed(0)
    T, width, layers = 8, 64, 2
    documents = [torch.randint(0, 256, (T + 1,)) for _ in range(11)]  # more than one batch of documents
    for name, config in schemes(layers, width, T, 256).items():
        found = growth(name, config, documents, seed=3)
        model = Transformer(config).initialise(3).requires_grad_(False)

        def from_block(x_TD: Tensor, block: int, model: Transformer = model) -> list[Tensor]:
            """The stream behind `block` and the later ones, and the final state, beginning with `x_TD` behind `block`."""
            out = [x_TD]
            for layer in model.layers[block + 1 :]:
                out.append(layer(out[-1][None], model.cos[:T], model.sin[:T])[0])
            return [*out, model.norm(out[-1])]

        def loss(final_TD: Tensor, labels_T: Tensor, model: Transformer = model) -> float:
            return float(F.cross_entropy(model.logits(final_TD).double(), labels_T))

        means = torch.zeros(2, 2, width, dtype=torch.float64)  # activations and gradients, first block and final state
        for document in documents:
            x_TD, labels_T = model.embed(document[:-1]), document[1:]
            first_TD = from_block(model.layers[0](x_TD[None], model.cos[:T], model.sin[:T])[0], 0)[0]
            final_TD = from_block(first_TD, 0)[-1]
            means[0, 0] += first_TD.mean(0) / len(documents)
            means[0, 1] += final_TD.mean(0) / len(documents)
            for axis in range(width):
                step = F.one_hot(torch.tensor(axis), width) * 0.01
                for i, moved in enumerate(
                    [
                        [from_block(first_TD + sign * step, 0)[-1] for sign in (1, -1)],
                        [final_TD + sign * step for sign in (1, -1)],
                    ]
                ):
                    slope = (loss(moved[0], labels_T) - loss(moved[1], labels_T)) / 0.02
                    means[1, i, axis] += slope / T / len(documents)
        norms = means.norm(dim=-1)
        assert found.activation_norm == pytest.approx(float(norms[0, 1]), rel=1e-4)
        assert found.gradient_norm == pytest.approx(float(norms[1, 1]), rel=2e-2)
        assert found.activation_exponent == pytest.approx(math.log(norms[0, 1] / norms[0, 0]) / layers, abs=1e-4)
        assert found.gradient_exponent == pytest.approx(math.log(norms[1, 1] / norms[1, 0]) / layers, abs=2e-2)


@pytest.fixture(scope="module")
def sweep() -> list[Growth]:
    documents = _documents(None, 12, 32)
    return [
        growth(name, config, documents, seed=0)
        for width in (128, 256)
        for name, config in schemes(32, width, 32, 256).items()
        if name in (OLD, NEW)
    ]


@pytest.mark.long
def test_exponents_of_olmo2_are_nearer_to_zero(sweep: list[Growth]) -> None:
    """OLMo 2 figure 5. It holds for the final state, not for the stream before the final norm, which grows by design."""
    assert nearer_to_zero(sweep, "activation_exponent") == {128: True, 256: True}
    assert nearer_to_zero(sweep, "gradient_exponent") == {128: True, 256: True}
    assert not any(nearer_to_zero(sweep, "stream_activation_exponent").values())


@pytest.mark.long
def test_gradients_of_olmo2_go_with_the_root_of_the_width(sweep: list[Growth]) -> None:
    """OLMo 2 figure 6: "the gradient norms for OLMo 2 positively correlate with sqrt(d), which they did not for OLMo-0424"."""
    power = {name: sqrt_width_power([g for g in sweep if g.scheme == name], "gradient_norm") for name in (OLD, NEW)}
    assert power[NEW] > 0.8
    assert abs(power[OLD]) < 0.25


def test_command_prints_and_draws(tmp_path: Path) -> None:
    small = ["--widths", "64,128", "--layers", "2", "--documents", "3", "--length", "8", "--out", str(tmp_path / "page.html")]
    printed = CliRunner().invoke(init, [*small, "--json"], catch_exceptions=False)
    records = json.loads(printed.stdout)
    assert [(r["scheme"], r["width"]) for r in records][::4] == [(OLD, 64), (OLD, 128)]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 4
    assert page.count("√128") == 2
    legend = page.partition('class="legend"')[2].partition("</p>")[0]
    dashed = re.findall(r'class="dashed"[^>]*></i>([^<]+)', legend)
    assert dashed == [f"{OLD}, new init", f"{NEW}, old init"] and legend.count("<i ") == 4
    shown = CliRunner().invoke(init, small, catch_exceptions=False)
    assert "to the power" in shown.stdout
    assert "(of 2 widths)" in shown.stdout
