"""Models of transformers with tokenizers of others: imported, taught to chat, exported, and the same to both."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, processors

from lehr.artifacts.artifact import Artifact, Cost
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.interop.convert import export_to_gguf, export_to_hf, import_checkpoint, import_hf
from lehr.interop.hf_weights import save_hf
from lehr.post.chat import render
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from tests.data.given import byte_level

torch.set_num_threads(1)
CHAT = [
    Message("user", "it's 1234?</s> <|user|>"),
    Message("assistant", "naïve 中!"),
    Message("user", "<fim_prefix>\n\nSure? "),
]
KINDS: dict[str, dict[str, Any]] = {
    "olmo2": {
        "pattern": "cl100k",
        "specials": ["<|endoftext|>", "<|pad|>", "<|im_start|>"],
        "eos": "<|endoftext|>",
        "pad": "<|pad|>",
    },
    "granite": {"pattern": "gpt2", "specials": ["<|endoftext|>", "<fim_prefix>", "<|end_of_text|>"], "eos": "<|end_of_text|>"},
}


def their_folder(kind: str, folder: Path, rows: int = 416) -> Path:
    """A small random model of transformers with its tokenizer, which begins every text with a token."""
    from transformers import GraniteConfig, GraniteForCausalLM, Olmo2Config, Olmo2ForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    backend = byte_level(KINDS[kind]["specials"], KINDS[kind]["pattern"])
    first, eos = KINDS[kind]["specials"][0], KINDS[kind]["eos"]
    backend.post_processor = processors.TemplateProcessing(
        f"{first} $A", f"{first} $A $B", [(first, backend.token_to_id(first))]
    )
    sizes: dict[str, Any] = {"vocab_size": rows, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96, "pad_token_id": None}
    sizes |= {"eos_token_id": backend.token_to_id(eos), "bos_token_id": backend.token_to_id(first)}
    if kind == "olmo2":
        model = Olmo2ForCausalLM(Olmo2Config(**sizes))
    else:
        model = GraniteForCausalLM(GraniteConfig(**sizes, embedding_multiplier=12.0, attention_multiplier=0.1))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, bos_token=first).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_model_learns_to_chat(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = their_folder(kind, tmp_path / "theirs")
    config = import_checkpoint(theirs, tmp_path / "base")
    assert (config.family, config.max_seq_len, config.vocab_size) == (kind, 96, 416)
    assert sorted(p.name for p in (tmp_path / "base").iterdir()) == ["model.json", "model.safetensors", "tokenizer.json"]
    tokenizer = Tokenizer.load(tmp_path / "base")
    assert tokenizer.token(tokenizer.eos_id) == KINDS[kind]["eos"]
    assert tokenizer.token(tokenizer.pad_id) == KINDS[kind].get("pad", KINDS[kind]["eos"])
    base = load_checkpoint(_sealed(tmp_path / "base"))
    tokens_BT = torch.randint(0, 416, (2, 30))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(theirs)(tokens_BT).logits
        torch.testing.assert_close(base.model(tokens_BT), logits, atol=2e-5, rtol=0)

    weights = {name: p.detach() for name, p in base.model.named_parameters()}
    save_checkpoint(tmp_path / "taught", config, weights, tmp_path / "base", chat=True)  # what SFT would write
    taught = _sealed(tmp_path / "taught")
    result = export_to_hf(taught, tmp_path / "out")
    assert result is not None and result.ok
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (again.eos_token, again.bos_token) == (KINDS[kind]["eos"], None)
    assert (again.eos_token_id, again.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert (said["eos_token_id"], said["pad_token_id"]) == (tokenizer.eos_id, tokenizer.pad_id)
    ids, _ = render(CHAT, tokenizer, True)
    rows = [m.row() for m in CHAT]
    assert again.apply_chat_template(rows, add_generation_prompt=True, return_dict=False) == ids
    assert again("it's 1234").input_ids == tokenizer.encode("it's 1234")
    assert import_hf(tmp_path / "out", tmp_path / "back").manifest.meta == {"family": kind}
    assert Tokenizer.load(tmp_path / "back").eos_id == tokenizer.eos_id


def _sealed(folder: Path) -> Artifact:
    return Artifact.seal(
        folder, kind="checkpoint", stage="sft", fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost()
    )


def test_the_gguf_file_names_the_tokenizers_end(tmp_path: Path) -> None:
    import gguf

    import_checkpoint(their_folder("granite", tmp_path / "theirs"), tmp_path / "base")
    export_to_gguf(_sealed(tmp_path / "base"), tmp_path / "m.gguf", "f32")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "m.gguf").fields.items()}
    eos = fields["tokenizer.ggml.eos_token_id"]
    assert fields["tokenizer.ggml.tokens"][eos] == "<|end_of_text|>" and fields["tokenizer.ggml.padding_token_id"] == eos


def test_the_folder_says_which_token_ends_a_text(tmp_path: Path) -> None:
    theirs = their_folder("granite", tmp_path / "theirs")
    (theirs / "tokenizer_config.json").unlink()  # then config.json tells, not the known name that comes first
    (theirs / "special_tokens_map.json").unlink(missing_ok=True)
    import_checkpoint(theirs, tmp_path / "base")
    tokenizer = Tokenizer.load(tmp_path / "base")
    assert tokenizer.token(tokenizer.eos_id) == "<|end_of_text|>"


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    theirs = their_folder("olmo2", tmp_path / "theirs", rows=402)
    with pytest.raises(UserError, match="its tokenizer's highest id is 402, and the embedding has 402 rows"):
        import_hf(theirs, tmp_path / "out")
    backend = byte_level(KINDS["olmo2"]["specials"])
    backend.normalizer = normalizers.Lowercase()
    (theirs / "tokenizer.json").write_text(backend.to_str())
    with pytest.raises(UserError, match="it has a normalizer: Lowercase"):
        import_hf(theirs, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs"]


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_every_file_written_has_the_mode_that_the_umask_gives(umask: int, tmp_path: Path) -> None:
    """Imported, exported for Hugging Face and for llama.cpp."""
    theirs = their_folder("granite", tmp_path / "theirs")
    before = os.umask(umask)
    try:
        import_checkpoint(theirs, tmp_path / "base")
        base = _sealed(tmp_path / "base")
        export_to_hf(base, tmp_path / "out")
        export_to_gguf(base, tmp_path / "m.gguf", "f32")
        save_hf(load_checkpoint(base).model, tmp_path / "saved")
    finally:
        os.umask(before)
    written = [path for name in ("base", "out", "saved") for path in (tmp_path / name).iterdir()]
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in [*written, tmp_path / "m.gguf"]}
    assert modes == dict.fromkeys(modes, oct(0o666 & ~umask))


def test_a_tokenizer_that_truncates_or_pads_takes_whole_texts_here_and_after_export(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    theirs, text = their_folder("granite", tmp_path / "theirs"), "the quick brown fox " * 20
    cutting = Backend.from_file(str(theirs / "tokenizer.json"))
    cutting.enable_truncation(5)
    cutting.enable_padding(length=300)
    cutting.save(str(theirs / "tokenizer.json"))
    import_checkpoint(theirs, tmp_path / "base")
    said = json.loads((tmp_path / "base/tokenizer.json").read_text())
    assert (said["truncation"], said["padding"]) == (None, None)
    ids = Tokenizer.load(tmp_path / "base").encode(text)
    assert len(ids) > 20 and 300 not in (len(ids), len(Tokenizer.load(tmp_path / "base").encode("a")))
    said |= {key: json.loads((theirs / "tokenizer.json").read_text())[key] for key in ("truncation", "padding")}
    (tmp_path / "base/tokenizer.json").write_text(json.dumps(said))  # an artifact that somebody else sealed
    export_to_hf(_sealed(tmp_path / "base"), tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(text).input_ids == ids
    assert json.loads((tmp_path / "out/tokenizer.json").read_text())["truncation"] is None
