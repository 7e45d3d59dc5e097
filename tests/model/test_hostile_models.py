"""Models from elsewhere that are not what they say: refused in one line, before memory is asked for, or read as theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lehr.artifacts.artifact import Artifact, Cost
from lehr.interop.convert import export_to_gguf, export_to_hf, import_checkpoint, import_hf
from lehr.interop.gguf import from_gguf_tensors, to_gguf_tensors
from lehr.interop.hf_config import CLASSES, class_defaults, model_from_hf
from lehr.interop.hf_weights import load_hf
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import load_architecture, load_checkpoint, load_training, save_checkpoint
from tests.data.given import byte_level
from tests.model.test_exchange_given import their_folder
from tests.model.test_families import CASES, SIZES, theirs_of, tokens

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 132735\n"
HUGE = [
    {"num_hidden_layers": 10**9},
    {"hidden_size": 2**40},
    {"hidden_size": 2**70, "num_attention_heads": 2**20, "num_key_value_heads": 2**20},
    {"intermediate_size": 2**62},
    {"vocab_size": 10**30},
    {"hidden_size": 10**400, "num_attention_heads": 1, "num_key_value_heads": 1},
    {"max_position_embeddings": 2**40},
]
ODD: list[dict[str, Any]] = [
    {"model_type": ["olmo2"]},
    {"rms_norm_eps": None},
    {"rms_norm_eps": "small"},
    {"rms_norm_eps": float("nan")},
    {"tie_word_embeddings": "false"},
    {"num_attention_heads": {}},
    {"num_key_value_heads": 0},
    {"rope_theta": "far", "rope_parameters": None},
    {"quantization_config": {"quant_method": "fp8"}},
]
ROPE = [
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope scaling 'linear' (rope_scaling)"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic' (rope_scaling)"),
    ({"rope_scaling": {"factor": 2.0}}, "rope_scaling.factor = 2.0"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "factor": 8.0}}, "rope_parameters.factor = 8.0"),
    ({"rope_parameters": {"full": {"rope_theta": 1e4}}}, "rope_parameters.full"),
    ({"rope_parameters": [1]}, "rope_parameters [1]"),
    ({"rope_theta": 5e5}, "rope_theta is 500000.0 at one place and 10000.0 at another"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
]


def changed(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_hf(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    theirs_of("olmo2, tied, grouped").save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def rewritten(folder: Path, **tensors: torch.Tensor) -> Path:
    """The weights with these tensors put in or replaced; `__` stands for a full stop."""
    new = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({**load_file(folder / "model.safetensors"), **new}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_tied_models_own_head_is_refused_and_an_equal_copy_dropped(folder: Path) -> None:
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    ours = load_hf(rewritten(folder, lm_head__weight=embedding.clone()))
    assert torch.equal(ours.embed.weight, embedding) and ours.head is None
    rewritten(folder, lm_head__weight=embedding + 1e-3)
    assert "hold another head (lm_head.weight)" in refusal(folder)
    rewritten(folder, lm_head__weight=embedding[:50].clone())
    assert "hold another head" in refusal(folder)
    gguf = to_gguf_tensors({n: p.detach() for n, p in ours.named_parameters()}, ours.config)
    with pytest.raises(UserError, match=r"hold another head \(output\.weight\)"):
        from_gguf_tensors({**gguf, "output.weight": embedding + 1e-3}, ours.config)


@pytest.mark.parametrize(("change", "says"), ROPE)
def test_rope_that_is_not_the_default_is_refused_wherever_it_stands(change: dict[str, Any], says: str, folder: Path) -> None:
    assert says in refusal(changed(folder, change))


@pytest.mark.parametrize("family", CLASSES)
def test_an_absent_key_is_the_classes_own_default(family: str, tmp_path: Path) -> None:
    """Held to transformers twice: key by key, and by the logits of a folder whose configuration leaves out all that it may."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {**SIZES, "num_key_value_heads": 6, "model_type": family}
    full = AutoConfig.for_model(**sizes).to_dict()
    assert model_from_hf(sizes) == model_from_hf(full)
    theirs_of(next(case for case, (name, _) in CASES.items() if CLASSES[family].startswith(f"{name}For"))).save_pretrained(
        tmp_path
    )
    said = json.loads((tmp_path / "config.json").read_text())
    absent = {theirs for theirs, _ in class_defaults(family).values()} - {
        "num_local_experts",
        "num_experts_per_tok",
        "use_qkv_bias",
    }
    absent |= {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "hidden_act", "head_dim"}
    absent -= {"tie_word_embeddings"} if said["tie_word_embeddings"] else set()
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in said.items() if key not in absent}))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        torch.testing.assert_close(load_hf(tmp_path)(tokens()), theirs(tokens(), use_cache=False).logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("change", [*HUGE, *ODD])
def test_sizes_are_held_to_the_weights_before_memory_is_asked_for(change: dict[str, Any], folder: Path) -> None:
    refusal(changed(folder, change))


@pytest.mark.parametrize("content", ["[1", "[]", "[" * 100_000, '{"n": ' + "9" * 5_000 + "}", "\udcff", POINTER])
def test_a_configuration_that_is_no_json_object_is_refused(content: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "config.json" in refusal(folder)


def test_weights_that_are_no_numbers_or_stand_twice_are_refused(folder: Path) -> None:
    norm = load_file(folder / "model.safetensors")["model.norm.weight"]
    for value, says in ((float("nan"), "holds NaN or infinity"), (float("inf"), "holds NaN or infinity")):
        bad = norm.clone()
        bad[3] = value
        assert says in refusal(rewritten(folder, model__norm__weight=bad))
    assert "no weights" in refusal(rewritten(folder, model__norm__weight=norm.to(torch.int8)))
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file({**whole, "model.norm.weight": norm}, folder / "a.safetensors")
    save_file({"model.norm.weight": norm * 2}, folder / "b.safetensors")
    index = dict.fromkeys(whole, "a.safetensors") | {"model.norm.weight": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "model.norm.weight stands in another file too" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": [1]}}))
    assert "no weight_map" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_git_lfs_pointer_is_called_one(name: str, tmp_path: Path) -> None:
    theirs = their_folder("olmo2", tmp_path / "theirs")
    (theirs / name).write_text(POINTER)
    with pytest.raises(UserError, match="this is a Git LFS pointer") as caught:
        import_hf(theirs, tmp_path / "out")
    assert caught.value.where == str(theirs / name)


def test_a_token_beyond_the_embedding_is_refused_at_import_and_at_export(tmp_path: Path) -> None:
    theirs = their_folder("olmo2", tmp_path / "theirs")
    spec = json.loads((theirs / "tokenizer.json").read_text())
    last = spec["added_tokens"][-1]
    last["id"] = spec["model"]["vocab"][last["content"]] = 500  # as many entries as before: fewer than the embedding's rows
    (theirs / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(UserError, match="highest id is 500, and the embedding has 416 rows"):
        import_hf(theirs, tmp_path / "out")
    import_checkpoint(their_folder("olmo2", tmp_path / "whole"), tmp_path / "base")
    made = load_checkpoint(sealed(tmp_path / "base"))
    large = byte_level(["<|endoftext|>", *(f"<|more_{i}|>" for i in range(30))])
    (tmp_path / "large").mkdir()
    (tmp_path / "large/tokenizer.json").write_text(large.to_str())
    weights = {n: p.detach() for n, p in made.model.named_parameters()}
    save_checkpoint(tmp_path / "wide", made.architecture, weights, tmp_path / "large", chat=False)
    with pytest.raises(UserError, match="highest id is 430, and the embedding has 416 rows"):
        export_to_gguf(sealed(tmp_path / "wide"), tmp_path / "m.gguf", "f32")


def sealed(folder: Path) -> Artifact:
    return Artifact.seal(
        folder, kind="checkpoint", stage="s", fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"n_layers": 10**9}},
        {"architecture": {"d_model": 2**40}},
        {"architecture": {"d_model": 10**400, "n_heads": 1, "n_kv_heads": 1}},
        {"architecture": {"max_seq_len": 2**40}},
        {"architecture": {"vocab_size": "many"}},
        {"architecture": {"unknown": 1}},
        {"architecture": None},
        {"tokenizer": None},
        {"chat": None},
        {"head": ["language"]},
    ],
)
def test_a_sealed_model_with_hostile_json_is_refused_as_users_own(change: dict[str, Any], tmp_path: Path) -> None:
    import_checkpoint(their_folder("olmo2", tmp_path / "theirs"), tmp_path / "base")
    said = json.loads((tmp_path / "base/model.json").read_text())
    for key, value in change.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) else value
    (tmp_path / "base/model.json").write_text(json.dumps(said))
    artifact = sealed(tmp_path / "base")
    for load in (load_checkpoint, load_architecture):
        if load is load_checkpoint or "head" not in change:
            with pytest.raises(UserError) as caught:
                load(artifact)
            assert "\n" not in str(caught.value)


def test_a_sealed_model_whose_weights_are_no_numbers_is_refused_by_whoever_reads_it(tmp_path: Path) -> None:
    import_checkpoint(their_folder("olmo2", tmp_path / "theirs"), tmp_path / "base")
    weights = load_file(tmp_path / "base/model.safetensors")
    weights["norm.weight"][0] = float("nan")
    save_file(weights, tmp_path / "base/model.safetensors")
    artifact = sealed(tmp_path / "base")
    for work in (export_to_hf, lambda artifact, out: export_to_gguf(artifact, out, "f32")):
        with pytest.raises(UserError, match=r"tensor 'norm\.weight' holds NaN or infinity"):
            work(artifact, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"lr": "0.1"}', POINTER])
def test_a_damaged_record_of_training_is_refused_as_users_own(content: str, tmp_path: Path) -> None:
    import_checkpoint(their_folder("olmo2", tmp_path / "theirs"), tmp_path / "base")
    (tmp_path / "base/train.json").write_text(content)
    with pytest.raises(UserError, match=r"train\.json"):
        load_training(sealed(tmp_path / "base"))
