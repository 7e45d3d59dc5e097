"""A model family of one's own (docs/architecture.md, How to add): what its file and its line in the registry lead to."""

from __future__ import annotations

from typing import get_args

import pytest

from lehr.config.model import Family, Model
from lehr.interop.hf_config import CLASSES, class_defaults, hf_config, model_from_hf
from lehr.model.families import FAMILIES
from lehr.model.families.base import RMS_PRE_NORM, ModelFamily

LLAMA = ModelFamily(
    name="llama",
    hf_class="LlamaForCausalLM",
    preset={"norm_eps": 1e-6, "rope_theta": 10_000.0},
    fixed=RMS_PRE_NORM,
    hf_keys={"norm_eps": ("rms_norm_eps", 1e-6)},
    hf_constants={"attention_bias": False, "mlp_bias": False},
    gguf_interleaved=True,
)
SIZES = {
    "vocab_size": 64, "n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 48, "max_seq_len": 64,
}  # fmt: skip


def test_every_family_has_a_file_and_can_be_named_in_a_recipe() -> None:
    assert set(get_args(Family)) == set(FAMILIES) == set(CLASSES)


def test_a_new_family_is_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "llama", LLAMA)  # type: ignore[arg-type]
    monkeypatch.setitem(CLASSES, "llama", LLAMA.hf_class)
    ours = Model.model_construct(**{**Model(**SIZES).model_dump(), **LLAMA.fixed, **LLAMA.preset, "family": "llama"})
    theirs = hf_config(ours, eos=1, pad=0)
    assert theirs["architectures"] == ["LlamaForCausalLM"] and theirs["rms_norm_eps"] == 1e-6
    assert class_defaults("llama")["norm_eps"] == ("rms_norm_eps", 1e-6)
    transformers = pytest.importorskip("transformers")
    read = transformers.LlamaConfig(**theirs)
    assert (read.hidden_size, read.num_key_value_heads, read.rms_norm_eps) == (32, 2, 1e-6)
    theirs["model_type"] = "olmo3"
    with pytest.raises(Exception, match=r"'olmo3' is none that Lehr builds"):
        model_from_hf(theirs)
