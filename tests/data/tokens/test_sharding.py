"""Shards of a stated size: the same tokens however they are cut, by however many processes, whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from lehr.artifacts.folder_store import LocalStore
from lehr.config.mix import Mix
from lehr.data.document import Document
from lehr.data.loader import Loader
from lehr.data.mix import plan
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens import encoding, sources
from lehr.data.tokens.files import read_listing, verify_body
from lehr.data.tokens.writing import ShardWriter, write_shards
from lehr.runtime.errors import InfraError, UserError
from tests.data.tokens.making import digests, given, sharded, texts

ROOT = Path(__file__).resolve().parents[3]
TOKENIZER = Tokenizer.train([" ".join(texts(0, 40))], 320)


@settings(max_examples=60, deadline=None)
@drawn(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_whole_documents_in_shards_of_at_most_the_size(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], size: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    documents = [Document(f"d{n}", "s", "sun " * length) for n, length in enumerate(lengths)]
    listing = write_shards(documents, "s", TOKENIZER, folder, size)
    cut = ShardSet.open(folder, "s", TOKENIZER.hash)
    wanted = [[*TOKENIZER.encode(d.text), TOKENIZER.eos_id] for d in documents]
    assert cut.tokens[:].tolist() == [token for ids in wanted for token in ids]
    starts = np.cumsum([0, *map(len, wanted)]).tolist()
    assert [(*span,) for span in cut.documents] == [(d.id, starts[n], starts[n + 1]) for n, d in enumerate(documents)]
    assert [cut.documents.find(d.id) for d in documents] == [[n] for n in range(len(documents))]
    for number, shard in enumerate(listing.shards):
        assert shard.tokens <= size or shard.documents == 1
        verify_body(folder / f"s-{number:05d}.tokens", shard)
    for shard, after in zip(listing.shards, listing.shards[1:], strict=False):
        first_of_next = sum(s.documents for s in listing.shards[: listing.shards.index(shard) + 1])
        assert shard.tokens + len(wanted[first_of_next]) > size or after is shard  # nothing more had room


def test_training_reads_the_same_however_tokens_are_cut(tmp_path: Path) -> None:
    """Batches and both look-ups, with windows that span shards and documents that span windows."""
    documents = [Document(f"d{n}", "s", text) for n, text in enumerate(texts(1, 90))]
    found: list[Any] = []
    for size in (1 << 28, 700, 64):
        folder = tmp_path / str(size)
        shards = len(write_shards(documents, "s", TOKENIZER, folder, size).shards)
        shard_set = ShardSet.open(folder, "s", TOKENIZER.hash)
        windows = (len(shard_set) - 1) // 32
        loader = Loader(plan(Mix(epochs={"s": 2.0}), {"s": shard_set}, 2 * windows, 32), seed=5)
        read = [loader.batch(step, 1, 2, 8).labels_BT.tolist() for step in range(loader.plan.instances // 8)]
        asked = loader.documents(0, loader.plan.instances)
        found.append((read, asked, [loader.instances_of("s", d.id) for d in documents]))
        assert (shards > 1) == (size < 1 << 28) and (size > 64 or shards > 60)
    assert found[0] == found[1] == found[2]


def test_shards_that_are_swapped_or_gone_are_refused(tmp_path: Path) -> None:
    write_shards([Document(f"d{n}", "s", "sun moon") for n in range(8)], "s", TOKENIZER, tmp_path, 20)
    first, second = tmp_path / "s-00000.tokens", tmp_path / "s-00001.tokens"
    kept, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    with pytest.raises(UserError, match="damaged shard header"):
        ShardSet.open(tmp_path, "s", TOKENIZER.hash)
    first.write_bytes(kept)
    second.unlink()
    with pytest.raises(UserError, match="no such shard"):
        ShardSet.open(tmp_path, "s", TOKENIZER.hash)
    (tmp_path / "s.shards").write_text('{"source": "s"}')
    with pytest.raises(UserError, match="damaged list of shards"):
        ShardSet.open(tmp_path, "s", TOKENIZER.hash)


def test_bytes_are_the_same_for_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_PIECE", 2000)
    folder = given(tmp_path / "in", {"a": texts(1, 80), "b": texts(2, 30)})
    one = sharded(folder, LocalStore(tmp_path / "1"), ["a", "b"], 900, 1)
    several = sharded(folder, LocalStore(tmp_path / "3"), ["a", "b"], 900, 3)
    assert digests(one.folder) == digests(several.folder) and one.manifest.digest == several.manifest.digest
    assert len(read_listing(one.folder, "a").shards) > 5
    assert not list((tmp_path / "1" / "work").iterdir())


def test_a_stage_that_ended_in_the_middle_goes_on_after_its_last_whole_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = given(tmp_path / "in", {"a": texts(1, 80), "b": texts(2, 30)})
    whole = digests(sharded(folder, LocalStore(tmp_path / "whole"), ["a", "b"], 900).folder)
    finish, made = ShardWriter.finish, list[int]()

    def breaks(self: ShardWriter) -> Any:
        made.append(self._number)
        if len(made) == 4:
            raise InfraError("here")
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", breaks)
        with pytest.raises(InfraError):
            sharded(folder, LocalStore(tmp_path / "broken"), ["a", "b"], 900)
    (saved,) = (tmp_path / "broken/work").glob("*/resume/shards")
    assert sorted(path.name for path in saved.glob("*.done")) == [f"a-{n:05d}.done" for n in range(3)]
    (saved / "a-00002.tokens").write_bytes((saved / "a-00002.tokens").read_bytes()[:-2] + b"??")  # as after a power failure
    made.clear()
    monkeypatch.setattr(ShardWriter, "finish", lambda self: (made.append(self._number), finish(self))[1])
    assert digests(sharded(folder, LocalStore(tmp_path / "broken"), ["a", "b"], 900).folder) == whole
    assert made[0] == 2 and made.count(0) == 1  # of `b`


def test_a_mistake_in_a_worker_is_the_users(tmp_path: Path) -> None:
    folder = given(tmp_path / "in", {"a": ["sun"] * 4})
    path = folder / "documents/documents/a.jsonl.gz"
    broken = [encoding.Lines(path, "a", [(7, b'{"text": 1}')])]
    with pytest.raises(UserError, match=r"a\.jsonl\.gz:7: no `text`"):
        list(encoding.in_order(broken, folder / "tokenizer", 2))


@pytest.mark.long
def test_pieces_of_killed_processes_are_given_to_others(tmp_path: Path) -> None:
    folder = given(tmp_path / "in", {"a": texts(1, 4000)})
    path = folder / "documents/documents/a.jsonl.gz"
    tokenizer = Tokenizer.load(folder / "tokenizer")
    rows = [piece for piece in encoding.pieces(path, "a", 0) for _ in range(12)]
    expected = [encoding.of_lines(piece, tokenizer).body for piece in rows]
    found, me = list[bytes](), os.getpid()
    for number, made in enumerate(encoding.in_order(rows, folder / "tokenizer", 2)):
        found.append(made.body)
        if number in (1, 7):
            children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
            workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(int(workers[0]), signal.SIGKILL)
    assert found == expected


@pytest.mark.long
@pytest.mark.timeout(900)
def test_kills_change_nothing(tmp_path: Path) -> None:
    """The stage's process, or all of its group, killed again and again at random moments."""
    folder = given(tmp_path / "in", {"a": texts(1, 30_000), "b": texts(2, 10_000)})
    command = [sys.executable, "-m", "tests.data.tokens.making", str(folder)]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole"), "60000", "2"], cwd=ROOT, check=True)
    seconds, draw, kills = time.monotonic() - began, random.Random(11), 0
    (whole,) = (tmp_path / "whole/artifacts").iterdir()
    expected = digests(whole)
    assert len(expected) > 60
    while kills < int(os.environ.get("LEHR_KILLS", "4")):  # a hundred take ten minutes
        place = tmp_path / f"after-{kills}"
        while True:
            child = subprocess.Popen(
                [*command, str(place), "60000", str(draw.choice([1, 2, 3]))], cwd=ROOT, start_new_session=True
            )
            try:
                assert child.wait(draw.uniform(0.3, seconds)) == 0
                break
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL) if draw.random() < 0.5 else child.kill()
                child.wait()
                kills += 1
        (made,) = (place / "artifacts").iterdir()
        assert digests(made) == expected


def test_a_source_that_is_added_is_tokenized_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, made = LocalStore(tmp_path / "run"), list[str]()
    write = sources.write_source
    monkeypatch.setattr(
        sources, "write_source", lambda e, t, place, done: (made.append(place.source), write(e, t, place, done))[1]
    )
    folder = given(tmp_path / "in", {"a": texts(1, 80), "b": texts(2, 30)})
    sharded(folder, store, ["a", "b"], 900)
    assert made == ["a", "b"]
    given(folder, {"c": texts(3, 30), "b": texts(4, 30)})  # another source, and other documents in `b`
    three = sharded(folder, store, ["a", "b", "c"], 900)
    assert made == ["a", "b", "b", "c"]
    alone = sharded(folder, LocalStore(tmp_path / "alone"), ["a", "b", "c"], 900)
    assert three.manifest.digest == alone.manifest.digest and digests(three.folder) == digests(alone.folder)
    made.clear()
    sharded(folder, store, ["a"], 900)
    sharded(folder, store, ["a"], 901)  # shards of another size
    assert made == ["a"]


def test_what_was_damaged_is_not_taken_from_an_earlier_artifact(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    folder = given(tmp_path / "in", {"a": texts(1, 80), "b": texts(2, 30)})
    first = sharded(folder, store, ["a"])
    body = first.folder / "a-00000.tokens"
    body.write_bytes(body.read_bytes()[:-2] + b"??")
    sharded(folder, store, ["a", "b"]).verify()
