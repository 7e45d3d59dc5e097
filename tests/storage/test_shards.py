"""Tokens that stay in the store: read by ranges, each block checked, through a cache of bounded size; written once."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.object_store.store import ObjectStore
from lehr.config.mix import Mix
from lehr.data.loader import Loader
from lehr.data.mix import plan
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens import block_cache, remote
from lehr.data.tokens.block_cache import BlockCache
from lehr.data.tokens.files import BLOCK, DIGEST, read_listing
from lehr.data.tokens.remote import BlockReader
from lehr.data.tokens.writing import ShardWriter
from lehr.pipeline.attempt import StageContext
from lehr.runtime.errors import InfraError, Preempted, UserError
from lehr.runtime.ports import NullTracker
from tests.data.tokens.making import digests, given, sharded, texts
from tests.staging import made_of
from tests.storage.machines import machine, small

SIZE = 150_000  # tokens of a shard: several blocks
_LEFT = (".tokens", ".spans", ".ids")


class Notes(NullTracker):
    def __init__(self) -> None:
        self.said = list[str]()

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return given(tmp_path / "in", {"a": texts(1, 3000), "b": texts(2, 60)})


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BlockCache:
    """A small one of this test's own, for whatever is read in this process."""
    found = BlockCache(tmp_path / "blocks", 40 * BLOCK)
    own = BlockReader(found)
    monkeypatch.setattr(remote, "reader", lambda: own)
    return found


def _counted(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    asked, read = list[tuple[str, int, int]](), store.objects.read

    def counting(key: str, start: int, size: int) -> bytes:
        asked.append((key.rpartition("/")[2], start, size))
        return read(key, start, size)

    monkeypatch.setattr(store.objects, "read", counting)
    return asked


def _batches(shards: Path, hash_: str) -> tuple[Loader, list[Any]]:
    sets = {name: ShardSet.open(shards, name, hash_) for name in ("a", "b")}
    loader = Loader(plan(Mix(weights={"a": 3.0, "b": 1.0}, max_epochs=99.0), sets, 256, 512), seed=3)
    return loader, [loader.batch(step, 0, 1, 8).labels_BT for step in range(32)]


def test_batches_are_those_of_the_whole_files_and_few_bytes_come(
    root: str, corpus: Path, cache: BlockCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sharded(corpus, machine(root, tmp_path / "1"), ["a", "b"], SIZE)
    second = machine(root, tmp_path / "2")
    hash_ = Tokenizer.load(corpus / "tokenizer").hash
    asked = _counted(second, monkeypatch)
    copy = Artifact.open(second.fetch(made.uri), uri=made.uri)  # verified, as far as it is here
    assert not [path for path in copy.folder.rglob("*") if path.suffix in _LEFT]
    wanted, found = _batches(made.folder, hash_), _batches(copy.folder, hash_)
    assert all((a == b).all() for a, b in zip(wanted[1], found[1], strict=True))
    assert not wanted[0]._remote and found[0]._remote
    blocks = {(name, start) for name, start, _ in asked}
    assert len(blocks) == len(asked) and max(size for *_, size in asked) == BLOCK  # each once
    assert not list(copy.folder.rglob("*.tokens"))
    # Another process of this machine has the blocks from the disk.
    asked.clear()
    monkeypatch.setattr(remote, "reader", lambda: BlockReader(cache))
    assert (_batches(copy.folder, hash_)[1][5] == wanted[1][5]).all() and len(asked) < len(blocks) // 2
    # Who asks for documents gets the files that say where they are, and they are checked.
    assert found[0].documents(0, 9) == wanted[0].documents(0, 9)
    assert found[0].instances_of("a", "a/7") == wanted[0].instances_of("a", "a/7")


def test_a_block_that_is_altered_is_not_read(root: str, corpus: Path, cache: BlockCache, tmp_path: Path) -> None:
    store = machine(root, tmp_path / "1")
    made = sharded(corpus, store, ["a"], SIZE)
    (key,) = (key for key in store.objects.keys("artifacts/") if key.endswith("a-00001.tokens"))
    listing = read_listing(made.folder, "a")
    raw = bytearray((made.folder / "a-00001.tokens").read_bytes())
    raw[listing.shards[1].offset + BLOCK + 5] ^= 1
    (tmp_path / "altered").write_bytes(raw)
    store.objects.upload({key: tmp_path / "altered"})
    copy = machine(root, tmp_path / "2").fetch(made.uri)
    tokens = ShardSet.open(copy, "a", Tokenizer.load(corpus / "tokenizer").hash).tokens
    first, whole = listing.shards[0].tokens, ShardSet.open(made.folder, "a", listing.tokenizer).tokens
    assert (tokens[first : first + BLOCK // 2] == whole[first : first + BLOCK // 2]).all()
    for _ in range(2):
        with pytest.raises(UserError, match=r"s3://.*a-00001\.tokens: block 1 of this shard is altered"):
            tokens[first : first + BLOCK // 2 + 1]
    (tmp_path / "short").write_bytes(raw[: BLOCK // 2])
    store.objects.upload({key: tmp_path / "short"})
    with pytest.raises(UserError, match=r"a-00001\.tokens: .*truncated"):
        tokens[first + BLOCK // 2 + 1 : first + BLOCK // 2 + 9]
    (spans,) = (key for key in store.objects.keys("artifacts/") if key.endswith("a-00000.spans"))
    store.objects.upload({spans: tmp_path / "short"})
    with pytest.raises(UserError, match=r"a-00000\.spans: file altered"):
        ShardSet.open(copy, "a", listing.tokenizer).documents.at(0)


def test_a_store_that_fails_for_a_while_is_asked_again(root: str, corpus: Path, cache: BlockCache, tmp_path: Path) -> None:
    made = sharded(corpus, machine(root, tmp_path / "1"), ["b"], SIZE)
    other = machine(root, tmp_path / "2")
    copy, read, left = other.fetch(made.uri), other.objects.read, [1]

    def failing(key: str, start: int, size: int) -> bytes:
        if left:
            left.pop()
            raise InfraError("not now")
        return read(key, start, size)

    other.objects.read = failing  # type: ignore[method-assign]
    tokens = ShardSet.open(copy, "b", Tokenizer.load(corpus / "tokenizer").hash).tokens
    with pytest.raises(InfraError, match="not now"):
        tokens[:9]
    assert (tokens[:9] == ShardSet.open(made.folder, "b", read_listing(copy, "b").tokenizer).tokens[:9]).all()


def test_the_cache_keeps_to_its_size_and_forgets_what_is_torn(tmp_path: Path) -> None:
    cache, rng = BlockCache(tmp_path / "blocks", 64 * BLOCK), np.random.default_rng(1)
    blocks = [rng.bytes(BLOCK if n % 3 else 1000 + n) for n in range(300)]
    names = [hashlib.sha256(block).digest()[:DIGEST] for block in blocks]
    for name, block in zip(names, blocks, strict=True):
        cache.put(name, block)
        assert cache.get(name, len(block)) == block
    found = [cache.get(name, len(block)) for name, block in zip(names, blocks, strict=True)]
    assert all(one in (None, block) for one, block in zip(found, blocks, strict=True))
    assert 30 < sum(one is not None for one in found) <= 64
    assert (tmp_path / "blocks").stat().st_size <= 64 * (BLOCK + DIGEST)
    again = BlockCache(tmp_path / "blocks", 64 * BLOCK)  # of another process
    assert [again.get(name, len(block)) for name, block in zip(names, blocks, strict=True)] == found
    with (tmp_path / "blocks").open("r+b") as file:
        file.seek(56 * DIGEST + 100)
        file.write(b"torn" * (BLOCK * 12))
    left = [again.get(name, len(block)) for name, block in zip(names, blocks, strict=True)]
    assert all(one in (None, block) for one, block in zip(left, blocks, strict=True))
    assert sum(one is not None for one in left) < sum(one is not None for one in found)


@pytest.mark.parametrize(("said", "says"), [("many", "is no number"), ("nan", "is no number"), ("inf", "is no number")])
def test_the_size_of_the_cache_is_the_users(said: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(block_cache.VARIABLE, said)
    with pytest.raises(UserError, match=says):
        BlockCache.own()
    monkeypatch.setenv(block_cache.VARIABLE, "0")
    assert BlockCache.own() is None


@pytest.mark.long
def test_finished_shards_are_in_the_store_and_another_machine_goes_on(
    root: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after three shards; its disk is lost. Nothing that was finished is made again, or sent again at the end."""
    finish, made = ShardWriter.finish, list[int]()

    def dies(self: ShardWriter) -> Any:
        made.append(self._number)
        if len(made) == 4:
            raise InfraError("here")
        return finish(self)

    first, second = machine(root, tmp_path / "1"), machine(root, tmp_path / "2")
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", dies)
        with pytest.raises(InfraError):
            sharded(corpus, first, ["a", "b"], SIZE // 4)
    shutil.rmtree(tmp_path / "1")
    made.clear()
    monkeypatch.setattr(ShardWriter, "finish", lambda self: (made.append(self._number), finish(self))[1])
    upload, copy, sent, copied = second.objects.upload, second.objects.copy, list[str](), list[str]()
    monkeypatch.setattr(second.objects, "upload", lambda files: (sent.extend(files), upload(files)))
    monkeypatch.setattr(second.objects, "copy", lambda keys: (copied.extend(keys.values()), copy(keys)))
    there = sharded(corpus, second, ["a", "b"], SIZE // 4)
    assert made[0] == 3 and len(made) > 3
    bodies = [key for key in sent if key.endswith(".tokens")]
    assert len({Path(key).name for key in bodies}) == len(bodies)  # none twice
    assert {"a-00000.tokens", "a-00001.tokens", "a-00002.tokens"} <= {Path(key).name for key in copied}
    alone = sharded(corpus, machine(f"{root}/alone", tmp_path / "3"), ["a", "b"], SIZE // 4)
    assert there.manifest.digest == alone.manifest.digest and digests(there.folder) == digests(alone.folder)
    fetched = machine(root, tmp_path / "4")
    objects = fetched.objects.keys("artifacts/")
    fetched.objects.download({key: below for key in objects if (below := tmp_path / Path(key).name)})
    assert all((tmp_path / name).read_bytes() == (there.folder / name).read_bytes() for name in there.manifest.files)
    assert fetched.objects.keys("work/") == []


def test_of_two_attempts_at_once_the_older_commits_no_more_shards(root: str, corpus: Path, tmp_path: Path) -> None:
    first, finish = machine(root, tmp_path / "1"), ShardWriter.finish
    begun = list[int]()

    def overtaken(self: ShardWriter) -> Any:
        begun.append(self._number)
        if len(begun) == 2:
            (key,) = first.objects.keys("attempts/")
            machine(root, tmp_path / "2").begin(Path(key).stem)
        return finish(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "finish", overtaken)
        with pytest.raises(Preempted):
            sharded(corpus, first, ["a"], SIZE // 4)
    assert len(begun) == 2


@pytest.mark.long
def test_an_added_source_takes_the_others_from_the_store(root: str, corpus: Path, tmp_path: Path) -> None:
    sharded(corpus, machine(root, tmp_path / "1"), ["a"], SIZE)
    notes = Notes()
    both = sharded(corpus, machine(root, tmp_path / "2"), ["a", "b"], SIZE, tracker=notes)
    assert [note for note in notes.said if "tokenizing" in note] == ["tokenizing b"]
    alone = sharded(corpus, machine(f"{root}/alone", tmp_path / "3"), ["a", "b"], SIZE)
    assert both.manifest.digest == alone.manifest.digest


@pytest.mark.slow
@pytest.mark.long
def test_training_in_several_processes_reads_from_the_store(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights as from whole files; no rank copies a body."""
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "cache"))
    recipe, first = small(2, "flat"), machine(root, tmp_path / "1")
    names = ["documents", "tokenizer", "shards"]
    refs = {name: made.ref for name, made in made_of(recipe, names, StageContext(first, fetch=first.fetch)).items()}
    whole = made_of(recipe, ["stage1"], StageContext(first, fetch=first.fetch), refs)["stage1"]
    other = machine(root, tmp_path / "3")
    first.objects.delete(first.objects.keys("attempts/stage1-"))  # so that it is trained again
    ranged = made_of(recipe, ["stage1"], StageContext(other, fetch=other.fetch), refs)["stage1"]
    assert ranged.manifest.digest == whole.manifest.digest
    assert not list((tmp_path / "3").rglob("*.tokens")) and list((tmp_path / "cache").glob("blocks-*"))
