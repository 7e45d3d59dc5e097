"""GGUF: every family through a file and back, and what llama.cpp would read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import lehr
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.interop.convert import export_to_gguf, import_hf
from lehr.interop.gguf import interleave, read_gguf
from lehr.interop.hf_export import export_hf
from lehr.model.fused import rotate
from lehr.model.layers import rope_tables
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from lehr.train.checkpointing.checkpoint import load_checkpoint
from tests.model.test_convert import uneven_

FAMILIES: dict[str, dict[str, Any]] = {
    "olmo": {"clip_qkv": 0.5},
    "olmo2": {"tied_embeddings": True},
    "granite": {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 2.0},
    "granitemoe": {"n_experts": 4, "top_k": 2},
    "stablelm": {"rope_fraction": 0.5},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train(["the cat sat on 12 mats, and 30 cats sat too"] * 3, 300).save(folder)
    return folder


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tokenizer: Path, tmp_path: Path) -> Artifact:
    """A model of the family, through Hugging Face's format into a checkpoint artifact."""
    sizes: dict[str, Any] = {"vocab_size": 304, "n_layers": 2, "d_model": 48, "n_heads": 6, "n_kv_heads": 2, "mlp_hidden": 40}
    model = Transformer(Model(family=request.param, max_seq_len=32, **sizes, **FAMILIES[request.param]))
    uneven_(model, 5)
    weights = {n: p.detach() for n, p in model.named_parameters()}
    export_hf(weights, model.config, tokenizer / "tokenizer.json", None, tmp_path / "hf")
    return import_hf(tmp_path / "hf", tmp_path / "checkpoint")


@pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_file_read_back_has_the_same_logits(checkpoint: Artifact, dtype: Any, tmp_path: Path) -> None:
    import gguf

    assert export_to_gguf(checkpoint, tmp_path / "m.gguf", dtype) < 1e-5
    config = load_checkpoint(checkpoint).architecture
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    known = {
        gguf.TENSOR_NAMES[t]
        for t in gguf.MODEL_TENSORS[next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == config.family)]
    }
    stems = {t.name.rpartition(".")[0].replace("blk.0.", "blk.{bid}.").replace("blk.1.", "blk.{bid}.") for t in reader.tensors}
    assert stems <= known, stems - known
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == config.family
    assert fields[f"{config.family}.attention.head_count_kv"] == 2
    assert fields[f"{config.family}.rope.dimension_count"] == config.rotary_dim
    assert len(fields["tokenizer.ggml.tokens"]) == config.vocab_size
    assert fields["tokenizer.ggml.eos_token_id"] == 0


def test_interleaved_rows_turn_as_neighbours() -> None:
    """Llama's RoPE on permuted rows gives the permutation of ours: the two conventions differ by the order of rows alone."""
    torch.manual_seed(0)
    q = torch.randn(1, 1, 5, 8)  # one head of eight dimensions, five positions
    cos, sin = rope_tables(8, 5, 100.0)
    ours = interleave(rotate(q, cos, sin)[0, 0].T.contiguous(), 1)
    rows = interleave(q[0, 0].T.contiguous(), 1)
    pairs = torch.view_as_complex(rows.view(4, 2, 5).transpose(1, 2).contiguous())
    turned = torch.view_as_real(pairs * torch.complex(cos[:, :4].T, sin[:, :4].T)).transpose(1, 2).reshape(8, 5)
    torch.testing.assert_close(turned, ours)


@pytest.mark.parametrize("checkpoint", ["olmo2"], indirect=True)
def test_commands_and_their_refusals(checkpoint: Artifact, tmp_path: Path) -> None:
    run = CliRunner().invoke
    for arguments in (["--out", str(tmp_path / "out")], ["--out", str(tmp_path / "out.gguf"), "--format", "gguf"]):
        result = run(lehr, ["export", str(checkpoint.folder), *arguments])
        assert result.exit_code == 0 and "logits" in result.output, result.output
        again = run(lehr, ["export", str(checkpoint.folder), *arguments])
        assert isinstance(again.exception, UserError) and "exists already" in str(again.exception)
    result = run(lehr, ["import", str(tmp_path / "out"), "--out", str(tmp_path / "back")])
    assert result.exit_code == 0 and "olmo2" in result.output
    ours, back = (load_checkpoint(Artifact.open(f)).model for f in (checkpoint.folder, tmp_path / "back"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), back.parameters(), strict=True))
    (tmp_path / "out/tokenizer.json").unlink()
    refused = run(lehr, ["import", str(tmp_path / "out"), "--out", str(tmp_path / "no")])
    assert isinstance(refused.exception, UserError) and not (tmp_path / "no").exists()
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "out.gguf").read_bytes()[:500])
    with pytest.raises(UserError):
        read_gguf(tmp_path / "cut.gguf", ours.config)
