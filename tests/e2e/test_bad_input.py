"""Bad input gets one clear error, exit code 2, and leaves nothing half-written."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import helpers
import pytest
import yaml
from helpers import Finished

from lehr.artifacts.artifact import Artifact
from lehr.data.document import Document
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stage1.tokenz=5", ("--set", "stage1.tokenz", "unknown key", "Did you mean 'tokens'")),
        ("stage1.tokens=-5", ("--set", "stage1.tokens", "-5")),
        ("posttraining.sft.steps=many", ("sft.steps", "whole number", "many")),
        ("data.mixes.web.weights.wiki=1.0", ("data.mixes.web.weights.wiki", "no source 'wiki'", "Sources are: ")),
        ("anneals.mix=best", ("anneals.mix", "no mix 'best'", "Mixes are: ")),
    ],
)
def test_a_wrong_recipe_is_explained_before_a_folder_is_made(tmp_path: Path, setting: str, says: tuple[str, ...]) -> None:
    helpers.refused(helpers.run(tmp_path / "run", "--set", setting), *says)
    assert not (tmp_path / "run").exists()


def test_a_wrong_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"inherits: {os.path.relpath(helpers.RECIPE, tmp_path)}\nrampp: {{tokens: 5}}\n")
    helpers.refused(helpers.run(tmp_path / "run", recipe=recipe), "mine.yaml", "rampp", "Did you mean 'ramp'")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "a"}\n{"text": oops}\n', (":2", "not JSON")),
        (b'{"text": "a"}\n{"text": "\xff"}\n', (":2", "invalid UTF-8")),
        (b"", ("is empty",)),
    ],
)
def test_a_damaged_source_is_named(tmp_path: Path, content: bytes, says: tuple[str, ...]) -> None:
    (tmp_path / "text.jsonl").write_bytes(content)
    recipe = tmp_path / "mine.yaml"
    source = {"kind": "jsonl", "path": "text.jsonl", "license": "CC0-1.0"}
    child = {"inherits": os.path.relpath(helpers.RECIPE, tmp_path), "data": {"sources": {"bible": source}}}
    recipe.write_text(yaml.safe_dump(child))
    helpers.refused(helpers.run(tmp_path / "run", recipe=recipe), str(tmp_path / "text.jsonl"), *says)
    assert not helpers.artifacts(tmp_path / "run")


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    shutil.copytree(finished.out, tmp_path / "run", ignore=shutil.ignore_patterns("mlflow*", "work"))
    return tmp_path / "run"


@pytest.mark.parametrize("damage", ["truncated", pytest.param("altered", marks=pytest.mark.long)])
def test_a_damaged_checkpoint_is_named_and_nothing_is_trained_on_it(copied: Path, damage: str) -> None:
    weights = copied / "artifacts" / helpers.artifacts(copied, ["soup"])[0] / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-9] ^= 64
    weights.write_bytes(raw[:-100] if damage == "truncated" else raw)
    before = helpers.artifacts(copied)
    helpers.refused(helpers.run(copied), str(weights), damage, "run the same command again")
    assert helpers.artifacts(copied) == before
    if damage == "altered":  # the remedy, as it was told, is the same for both
        shutil.rmtree(weights.parent)
        mended = helpers.run(copied, "--no-mlflow")
        assert mended.returncode == 0, mended.stderr
        assert helpers.artifacts(copied) == before


@pytest.mark.long
def test_a_checkpoint_of_another_tokenizer_is_refused(copied: Path) -> None:
    """Swapped consistently: the manifest vouches for the files, and still they do not belong together."""
    folder = copied / "artifacts" / helpers.artifacts(copied, ["rlvr"])[0]
    Tokenizer.train(["some other text " * 50], 300).save(folder)
    _seal_again(folder)
    before = helpers.artifacts(copied)
    helpers.refused(helpers.lehr("chat", folder, stdin="Hello\n"), str(folder), "another tokenizer")
    helpers.refused(helpers.run(copied), str(folder), "another tokenizer")
    assert helpers.artifacts(copied) == before


@pytest.mark.long
def test_shards_of_another_tokenizer_are_refused(copied: Path) -> None:
    """As if the shards of another run had been copied in: their header says whose they are."""
    folder = copied / "artifacts" / helpers.artifacts(copied, ["shards"])[0]
    text = [Document(str(i), "bible", "some other text " * 50) for i in range(50)]
    write_shards(text, "bible", Tokenizer.train([d.text for d in text], 300), folder)
    _seal_again(folder)
    before = helpers.artifacts(copied)
    helpers.refused(helpers.run(copied), str(folder / "bible.shards"), "another tokenizer")
    assert helpers.artifacts(copied) == before


def _seal_again(folder: Path) -> None:
    """Let the manifest vouch for what now lies in `folder`."""
    m = Artifact.open(folder, verify=False).manifest
    Artifact.seal(
        folder, kind=m.kind, stage=m.stage, fingerprint=m.fingerprint, parents=m.parents, config=m.config, code=m.code,
        meta=m.meta, cost=m.cost,
    )  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "lehr-test", str(place)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.long
def test_a_full_disk_is_said_and_nothing_is_half_written(small_disk: Path) -> None:
    out = small_disk / "run"
    helpers.refused(helpers.run(out, "--no-mlflow"), str(out), "the disk is full", "run the same command again")
    for name in helpers.artifacts(out):
        Artifact.open(out / "artifacts" / name)  # complete, or it would raise
    assert len(list((out / "artifacts").glob("*"))) == len(helpers.artifacts(out))
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert helpers.run(out, "--no-mlflow").returncode == 0


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    helpers.refused(helpers.run(tmp_path / "file" / "run"), str(tmp_path / "file"), "Choose another --out")
    assert (tmp_path / "file").read_text() == ""


def test_an_unwritable_folder_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    helpers.refused(helpers.run(small_disk / "run"), str(small_disk), "read-only", "--out")


def test_two_runs_in_one_folder_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        helpers.refused(helpers.run(tmp_path / "run"), "another lehr run is at work")


def test_dropped_documents_are_all_on_record(finished: Finished) -> None:
    folder = finished.out / "artifacts" / helpers.artifacts(finished.out, ["documents"])[0]
    funnel = json.loads((folder / "funnel.json").read_text())
    rows = [json.loads(line) for line in gzip.decompress((folder / "dropped.jsonl.gz").read_bytes()).decode().splitlines()]
    for source, row in funnel.items():
        assert row["read"] == row["kept"] + sum(row["dropped"].values())
        assert sum(1 for r in rows if r["source"] == source) == sum(row["dropped"].values())
