"""A template's new tokens: in the tokenizer, the embedding, the steps after, the replayed shards, and every export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import Artifact, Cost
from lehr.artifacts.folder_store import LocalStore
from lehr.cli.talk import speaker
from lehr.config.mix import Mix
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.config.schedule import StepSchedule
from lehr.config.training import Watch
from lehr.data.document import Document
from lehr.data.shards import ShardSet
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.distributed.ranks import Ranks
from lehr.evals import score, suites
from lehr.evals.task import Pair
from lehr.interop.convert import export_to_gguf, export_to_hf, import_checkpoint
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.spec import Inputs
from lehr.post.chat import render, turn_end_id
from lehr.post.growth import take_template
from lehr.post.grpo import GrpoObjective, Prompt
from lehr.post.merging import check_ingredients
from lehr.post.sets.prepare import Preparing, prepare_conversations
from lehr.post.template_tokens import with_template
from lehr.post.templates import BUILT_IN, MARKERS
from lehr.runtime.errors import UserError
from lehr.stages import sft
from lehr.train.checkpointing.checkpoint import Loaded, load_checkpoint, save_checkpoint
from lehr.train.state import TrainState
from tests.data.given import TEXTS, byte_level, save
from tests.post.test_chat_given import _given
from tests.post.training import SETTINGS

torch.set_num_threads(1)
OURS = Tokenizer.train(["\n\n".join(TEXTS)], 380)
ROWS = OURS.vocab_size
CHAT = [Message("system", "Be brief."), Message("user", "12 + 3? <|end_of_role|>"), Message("assistant", "15")]


def model(rows: int, **keys: Any) -> Transformer:
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden": 48, "max_seq_len": 128}
    return Transformer(Model(vocab_size=rows, **sizes, **keys)).initialise(1)


def granite(rows: int) -> Transformer:
    keys = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1, "logits_scaling": 4.0}
    return model(rows, family="granite", tied_embeddings=True, mup_base_width=8, **keys)


def loaded(found: Transformer, tokenizer: Tokenizer = OURS) -> Loaded:
    return Loaded(found, tokenizer, found.config, {}, False)


@pytest.mark.parametrize("kind", ["ours", "gpt2", "cl100k", "one role", "other end"])
@pytest.mark.parametrize("chosen", ["granite", "chatml"])
def test_new_tokens_come_after_all_ids_and_change_no_text(kind: str, chosen: str, tmp_path: Path) -> None:
    old = _given(kind, tmp_path)
    new = with_template(old, chosen)
    added = [name for name in MARKERS[chosen] if name not in old.special_ids]
    assert [new.special_ids[name] for name in added] == list(range(old.vocab_size, old.vocab_size + len(added)))
    assert new.vocab_size == old.vocab_size + len(added) and (new.eos_id, new.pad_id) == (old.eos_id, old.pad_id)
    for text in (*TEXTS, *added, "".join(added)):
        assert new.encode(text) == old.encode(text) and max(new.encode(text)) < old.vocab_size
    new.save(tmp_path / "new")
    again = Tokenizer.load(tmp_path / "new")
    assert (again.hash, again.chat_template) == (new.hash, BUILT_IN[chosen])
    assert again.reads(old.hash) and again.reads(again.hash) and not old.reads(new.hash)
    assert with_template(new, chosen) is new
    assert with_template(new, "lehr").chat_template == "" and with_template(new, "").chat_template == BUILT_IN[chosen]


def test_a_grown_tokenizer_reads_its_own_shards_and_no_others(tmp_path: Path) -> None:
    write_shards([Document("1", "s", text) for text in TEXTS], "s", OURS, tmp_path)
    grown = with_template(with_template(OURS, "chatml"), "granite")
    assert (ShardSet.open(tmp_path, "s", grown).tokens == ShardSet.open(tmp_path, "s", OURS.hash).tokens).all()
    other = Tokenizer.train(["another text " * 40], 300)
    for wrong in (other, with_template(other, "granite"), grown.hash):
        with pytest.raises(UserError, match="made with another tokenizer"):
            ShardSet.open(tmp_path, "s", wrong)


def test_an_ordinary_token_with_a_markers_name_is_refused() -> None:
    backend = byte_level(["<|endoftext|>"])
    backend.add_tokens(["<|im_start|>"])
    with pytest.raises(UserError, match=r"ordinary token '<\|im_start\|>'"):
        with_template(Tokenizer(backend), "chatml")


@pytest.mark.parametrize("rows", [ROWS, ROWS + 2, ROWS + 16])
@pytest.mark.parametrize("chosen", ["granite", "chatml"])
@pytest.mark.parametrize("make", [model, granite])
def test_new_rows_are_the_mean_and_the_rest_stays(rows: int, chosen: str, make: Any) -> None:
    old = make(rows)
    taken = take_template(loaded(old), chosen)
    grown, wanted = taken.model, ROWS + len(MARKERS[chosen])
    assert grown.config == taken.architecture == old.config.model_copy(update={"vocab_size": max(rows, wanted)})
    changed = [*range(ROWS, wanted), *([OURS.eos_id] if chosen == "granite" else [])]
    before, after = dict(old.named_parameters()), dict(grown.named_parameters())
    assert ("head.weight" in after) == (make is model)
    for name, table in before.items():
        if name not in ("embed.weight", "head.weight"):
            assert torch.equal(after[name], table)
            continue
        mean = table[:ROWS].double().mean(dim=0).float()
        assert all(torch.equal(after[name][i], mean) for i in changed)
        kept = [i for i in range(rows) if i not in changed]
        assert torch.equal(after[name][kept], table[kept])
    tokens = torch.tensor([OURS.encode(TEXTS[0])[:40]])
    kept = [i for i in range(ROWS) if i not in changed]
    torch.testing.assert_close(grown(tokens)[..., kept], old(tokens)[..., kept], rtol=0, atol=1e-6)
    same = loaded(grown, taken.tokenizer)
    assert take_template(same, chosen) is same
    only = take_template(loaded(old), "tulu")
    assert only.model is old and only.tokenizer.chat_template == BUILT_IN["tulu"] and only.tokenizer.hash == OURS.hash


def sealed(folder: Path, kind: str, **meta: Any) -> Artifact:
    return Artifact.seal(
        folder, kind=kind, stage=folder.name, fingerprint="f", parents=[], config={}, code="c", meta=meta, cost=Cost()
    )


def rows(folder: Path, parent: Artifact, template: str) -> Artifact:
    """Twelve conversations, rendered under the template."""
    folder.mkdir()
    tokenizer = with_template(Tokenizer.load(parent.folder), template)
    tokenizer.save(folder)
    prepare_conversations(Preparing({"math": 6, "repeat": 6}, {}, 0, 128, 1), tokenizer, None, folder, print)
    return sealed(folder, "conversations")


def tuned(tmp_path: Path, parent: Artifact, name: str, template: str, replay: Artifact | None = None) -> Artifact:
    """The checkpoint of two steps of SFT on `parent`."""
    context = StageContext(store := LocalStore(tmp_path / "run"))
    attempt = Attempt(name, store.scratch(name), context, store.begin(name))
    config = sft.SftConfig(
        optim=Optim(lr=1e-3), schedule=StepSchedule(), steps=2, epochs=1.0, batch_size=4, batch_tokens=0, max_length=128,
        loss="mean", seed=1,
        replay=sft.ReplayConfig(mix=Mix(weights={"s": 1.0}), rows=2, sequence_length=32) if replay else None,
        template=template, checkpoint_steps=10, parallel=Parallel(), watch=Watch(),
    )  # fmt: skip
    roles = {
        "parent": [parent],
        "rows": [rows(tmp_path / f"{name}-rows", parent, template)],
        **({"shards": [replay]} if replay else {}),
    }
    sft.run(config, Inputs(roles), attempt)
    return sealed(attempt.out, "checkpoint")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """A granite model under Granite's template, with pretraining's shards replayed; and its child, which inherits."""
    folder = tmp_path_factory.mktemp("taught")
    OURS.save(folder / "tokenizer")
    weights = {name: p.detach() for name, p in granite(ROWS).named_parameters()}
    save_checkpoint(folder / "stage1", granite(ROWS).config, weights, folder / "tokenizer", chat=False)
    (folder / "shards").mkdir()
    count = write_shards([Document("1", "s", text * 9) for text in TEXTS], "s", OURS, folder / "shards").tokens
    shards = sealed(folder / "shards", "shards", tokens={"s": count})
    first = tuned(folder, sealed(folder / "stage1", "checkpoint"), "sft", "granite", shards)
    return first, tuned(folder, first, "sft-2", "")


def test_steps_train_the_grown_model_and_their_children_inherit(taught: tuple[Artifact, Artifact]) -> None:
    first, second = map(load_checkpoint, taught)
    for found in (first, second):
        assert found.chat and found.architecture.vocab_size == found.tokenizer.vocab_size == ROWS + 3
        assert found.tokenizer.chat_template == BUILT_IN["granite"]
        assert render(CHAT, found.tokenizer, False)[0][0] == found.tokenizer.special_ids["<|start_of_role|>"]
    assert first.tokenizer.hash == second.tokenizer.hash
    rows = dict(first.model.named_parameters())["embed.weight"]
    assert not torch.equal(rows[ROWS], rows[ROWS + 2])  # the headers' token was learnt, that of tools was in no conversation
    assert json.loads(taught[0].path("model.json").read_text())["architecture"]["embedding_multiplier"] == 12.0


def test_exports_say_the_same(taught: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    artifact, ours = taught[0], load_checkpoint(taught[0]).tokenizer
    result = export_to_hf(artifact, tmp_path / "hf")
    assert result is not None and result.ok
    assert export_to_gguf(artifact, tmp_path / "x.gguf", "f32") < 1e-5
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    plain = [Message(m.role, m.content.replace("<|end_of_role|>", "")) for m in CHAT]
    assert theirs.apply_chat_template([m.row() for m in plain], return_dict=False) == render(plain, ours, False)[0]
    import gguf

    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert [tokens[i] for i in range(ROWS, ROWS + 3)] == list(MARKERS["granite"]) and len(tokens) == ROWS + 3
    assert "generation -%}" not in fields["tokenizer.chat_template"].contents()
    # And back again: the same tokenizer, template and prompt.
    import_checkpoint(tmp_path / "hf", tmp_path / "back")
    back = load_checkpoint(sealed(tmp_path / "back", "checkpoint"))
    assert back.chat and render(CHAT, back.tokenizer, False) == render(CHAT, ours, False)


def test_the_end_of_a_turn_stands_in_the_exports(tmp_path: Path) -> None:
    taken = take_template(loaded(granite(ROWS)), "chatml")
    weights = {name: p.detach() for name, p in taken.model.named_parameters()}
    save_checkpoint(tmp_path / "chat", taken.architecture, weights, taken.tokenizer, chat=True)
    artifact = sealed(tmp_path / "chat", "checkpoint")
    export_to_hf(artifact, tmp_path / "hf")
    export_to_gguf(artifact, tmp_path / "x.gguf", "f32")
    import gguf

    end = turn_end_id(taken.tokenizer)
    assert end == taken.tokenizer.special_ids["<|im_end|>"] != taken.tokenizer.eos_id
    said = json.loads((tmp_path / "hf/generation_config.json").read_text())
    assert said["eos_token_id"] == [end, taken.tokenizer.eos_id]
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.ggml.eot_token_id"].contents() == end


def test_who_samples_stops_at_the_end_of_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, talks, pairs and roll-outs, under ChatML, where that is not the end of text."""
    taken = take_template(loaded(granite(ROWS)), "chatml")
    end = turn_end_id(taken.tokenizer)
    asked = list[list[int]]()

    def generate(self: LanguageModel, prompts: Any, _new: int, stops: Any = (), *_: Any) -> list[list[int]]:
        asked.append(list(stops))
        return [[*self.tokenizer.encode("5"), end] for _ in prompts]

    monkeypatch.setattr(LanguageModel, "generate", generate)
    own = LanguageModel(taken.model, taken.tokenizer, chat=True)
    assert score._generations(own, suites.examples("chat_format", "dev", 4, 1), 1, 8)
    prompt, answer = score._answer_request(own, Pair([Message("user", "a")], "b", "c"), "b")
    assert answer == [*taken.tokenizer.encode("b"), end] and prompt[-1] != end
    state = TrainState.fresh(taken.model, Optim(lr=1e-3))
    state.frozen["reference"] = taken.model
    prompts = [Prompt([1, 2], lambda _ids, finished: float(finished))]
    objective = GrpoObjective(state, own, prompts, replace(SETTINGS, prompts=1), 1, own)
    assert objective.draw(0, 0, Ranks()).finished_B.all()
    weights = {name: p.detach() for name, p in taken.model.named_parameters()}
    save_checkpoint(tmp_path / "chat", taken.architecture, weights, taken.tokenizer, chat=True)
    said = speaker(sealed(tmp_path / "chat", "checkpoint"), temperature=0.0, max_new_tokens=4, seed=1)
    assert said.reply([{"role": "user", "content": "a"}]) == "5"
    assert asked == [[end]] * len(asked) and len(asked) >= 3


def test_a_soup_has_one_template(tmp_path: Path) -> None:
    found = []
    for name in ("tulu", "zephyr"):
        weights = {n: p.detach() for n, p in granite(ROWS).named_parameters()}
        save_checkpoint(tmp_path / name, granite(ROWS).config, weights, with_template(OURS, name), chat=True)
        found.append(sealed(tmp_path / name, "checkpoint"))
    with pytest.raises(UserError, match="chat template differs"):
        check_ingredients(found)


def test_a_folder_of_theirs_brings_its_template(tmp_path: Path) -> None:
    """With the tokens that it names bound, wherever transformers keeps it; and an export of the house's is the house's."""
    from transformers import AutoTokenizer

    from lehr.config.tokenizer import Tokenizer as Config

    text = "\n{{ bos_token + '[' }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}\n"
    named = {"eos_token": "<|endoftext|>", "bos_token": "<s>"}
    listed = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": text}]
    for place, kept in (("config", text), ("list", listed), ("file", None)):
        folder = save(
            tmp_path / place, byte_level(["<|endoftext|>", "<s>"]), **named, **({"chat_template": kept} if kept else {})
        )
        if kept is None:
            (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        ours = Tokenizer.given(Config(path=str(folder)))
        theirs = AutoTokenizer.from_pretrained(folder)
        chat = [Message("user", "a"), Message("assistant", "b")]
        said = theirs.apply_chat_template([m.row() for m in chat], tokenize=False)
        assert ours.decode(render(chat, ours, False)[0], skip_special=False) == said
        assert said.startswith("\n<s>[a<|endoftext|>b")
    from lehr.post.chat import chat_template

    for marked in (True, False):
        house = OURS.with_template(chat_template(OURS, marked=marked))
        assert render(CHAT, house, False) == render(CHAT, OURS, False)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        Tokenizer.given(Config(path=str(folder)))
