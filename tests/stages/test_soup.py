"""The soup: an fp32 mean of checkpoints that belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost
from lehr.post.merging import average, check_ingredients
from lehr.runtime.errors import UserError


def _ingredient(root: Path, name: str, value: float, parent: str = "p", width: int = 4, tokenizer: str = "t") -> Artifact:
    folder = root / name
    folder.mkdir()
    save_file({"w": torch.full((3,), value, dtype=torch.bfloat16)}, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps({"architecture": {"d_model": width}, "tokenizer": tokenizer, "chat": False}))
    ref = ArtifactRef(uri="x", digest=parent, kind="checkpoint", stage="ramp")
    return Artifact.seal(
        folder, kind="checkpoint", stage=name, fingerprint="f", parents=[ref], config={}, code="c", meta={}, cost=Cost()
    )


def test_a_soup_is_the_fp32_mean(tmp_path: Path) -> None:
    values = [1.0, 1.0078125, 1.0]  # neighbours in bf16: their sum in bf16 would lose the middle one
    average([_ingredient(tmp_path, f"a{i}", v) for i, v in enumerate(values)], tmp_path / "soup")
    soup = load_file(tmp_path / "soup")
    assert soup["w"].dtype == torch.bfloat16
    assert torch.equal(soup["w"], torch.full((3,), sum(values) / 3).to(torch.bfloat16))


def test_a_soup_in_blocks_equals_one_in_memory(tmp_path: Path) -> None:
    """Tensors longer than a block and of several dtypes; a truncated ingredient and one of other shapes are refused."""
    artifacts, states = [], []
    for i in range(3):
        generator = torch.Generator().manual_seed(i)
        state = {
            "b.long": torch.randn(700, 1000, generator=generator),
            "a.half": torch.randn(999, 333, generator=generator).bfloat16(),
            "c.empty": torch.zeros(0, 4),
            "c.one": torch.randn(1, generator=generator),
        }
        artifacts.append(_ingredient(tmp_path, f"i{i}", 0.0))
        save_file(state, artifacts[-1].path("model.safetensors"))
        states.append(state)
    average(artifacts, tmp_path / "soup")
    soup = load_file(tmp_path / "soup")
    for name, mean in soup.items():
        total = states[0][name].float() + states[1][name].float()
        assert torch.equal(mean, ((total + states[2][name].float()) / 3).to(mean.dtype)), name
    save_file({"b.long": torch.zeros(3)}, artifacts[1].path("model.safetensors"))
    with pytest.raises(UserError, match="not the first"):
        average(artifacts, tmp_path / "soup")
    artifacts[1].path("model.safetensors").write_bytes(artifacts[0].path("model.safetensors").read_bytes()[:-4])
    with pytest.raises(UserError, match="truncated"):
        average(artifacts, tmp_path / "soup")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_go_into_no_soup(value: float, tmp_path: Path) -> None:
    whole, bad = _ingredient(tmp_path, "a", 1.0), _ingredient(tmp_path, "b", value)
    with pytest.raises(UserError, match="its weights hold NaN or infinity") as caught:
        average([whole, bad], tmp_path / "soup")
    assert caught.value.where == str(bad.path("model.safetensors"))


@pytest.mark.parametrize("header", [b"[]", b"{", b"[" * 100_000, b'{"w": 1}', b'{"w": {}}', b"\xff"])
def test_an_ingredient_without_a_header_is_refused(header: bytes, tmp_path: Path) -> None:
    whole, bad = _ingredient(tmp_path, "a", 1.0), _ingredient(tmp_path, "b", 1.0)
    bad.path("model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=re.escape(str(bad.path("model.safetensors")))):
        average([whole, bad], tmp_path / "soup")


@pytest.mark.parametrize(
    ("other", "says"), [({"parent": "q"}, "parents"), ({"width": 8}, "architecture"), ({"tokenizer": "u"}, "tokenizer")]
)
def test_ingredients_must_belong_together(tmp_path: Path, other: dict[str, object], says: str) -> None:
    first = _ingredient(tmp_path, "a", 1.0)
    with pytest.raises(UserError, match=says):
        check_ingredients([first, _ingredient(tmp_path, "b", 1.0, **other)])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least two"):
        check_ingredients([first])
