"""The image's parts that need no builder: what it installs, what is sent to the builder, what `make image` refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from lehr import __version__
from lehr.infra.image.requirements import requirements

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIGEST = "localhost/base@sha256:" + "0" * 64


def test_an_image_installs_what_the_package_asks_for_and_no_tools() -> None:
    own, extras = PROJECT["dependencies"], PROJECT["optional-dependencies"]
    assert requirements(PROJECT, []) == own
    assert set(requirements(PROJECT, ["all"])) == {
        *own,
        *extras["flyte"],
        *extras["track"],
        *extras["export"],
        *extras["rl"],
        *extras["parquet"],
        *extras["web"],
        *extras["cluster"],
    }
    assert not set(requirements(PROJECT, ["all"])) & set(extras["dev"])
    with pytest.raises(SystemExit, match="there is no extra 'gpu'"):
        requirements(PROJECT, ["gpu"])


def test_the_last_stage_only_copies_and_is_nobodys_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    first, last = re.split(r"^FROM \$\{BASE_IMAGE\}$", text, flags=re.M)
    assert not re.search(r"^(RUN|ADD)\b", last, re.M) and re.search(r"^USER 1000:1000$", last, re.M)
    assert set(re.findall(r"^(?:FROM) (\S+)", text, re.M)) == {"${BASE_IMAGE}"}  # no image, and no tag, is written down
    assert first.index("pip install --no-compile --constraint") < first.index("COPY . .")  # packages before code
    assert first.index("ENV SOURCE_DATE_EPOCH=") < first.index("build_sdist"), "the wheel has the commit's time"
    pinned = dict(re.findall(r"([\w-]+)==([\d.]+)", first))
    assert f"setuptools=={pinned['setuptools']}" in PROJECT["optional-dependencies"]["dev"]


def test_the_builder_gets_every_room_and_no_more() -> None:
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    rooms = {link.resolve().name for link in (ROOT / "lehr").iterdir() if link.is_symlink()}
    assert kept == rooms | {"lehr", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"}


BUILDERS = ("docker", "podman", "buildah")


def _built(folder: Path, answer: tuple[str, ...] = BUILDERS[1:], **given: str) -> subprocess.CompletedProcess[str]:
    """build.sh with builders of ours on the path: each writes down what it is called with, and the time that it is told."""
    for name in BUILDERS:
        answers = "exit 0" if name in answer else "exit 1"
        (folder / name).write_text(f'#!/bin/sh\n[ "$1" = info ] && {answers}\necho {name} "$@" at "$SOURCE_DATE_EPOCH"\n')
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "BUILDER": "",
        "BASE_IMAGE": DIGEST,
        "TORCH_INDEX": "",
        "EXTRAS": "",
    }
    return subprocess.run(
        ["sh", "infra/image/build.sh"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**environment, "IMAGE": "lehr:1", "BUILD_FLAGS": "", **given},
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="git says when the commit was")
def test_the_builder_that_answers_is_called_with_the_commits_time(tmp_path: Path) -> None:
    done = _built(tmp_path, BUILD_FLAGS="--network host")
    assert done.returncode == 0, done.stderr
    assert re.match(r"podman build --format oci --timestamp \d+ --build-arg BASE_IMAGE=localhost/base@sha256:0+ ", done.stdout)
    (at,) = re.findall(r"--timestamp (\d+) ", done.stdout)
    assert f"--build-arg SOURCE_DATE_EPOCH={at} " in done.stdout, "the wheel has the commit's time"
    assert "--tag lehr:1 --network host ." in done.stdout and "EXTRAS=all" in done.stdout
    assert f"--build-arg VERSION={__version__} --build-arg" in done.stdout
    assert _built(tmp_path, BUILDER="buildah").stdout.startswith("buildah build --format oci --layers ")


@pytest.mark.skipif(shutil.which("git") is None, reason="git says when the commit was")
def test_docker_podman_and_buildah_are_asked_in_this_order_and_each_in_its_own_words(tmp_path: Path) -> None:
    """docker has no option for the time: it reads the variable. A command whose daemon does not answer builds nothing."""
    starts = {"docker": "docker build --build-arg", "podman": "podman build --format oci --timestamp",
              "buildah": "buildah build --format oci --layers --timestamp"}  # fmt: skip
    for count, name in enumerate(BUILDERS):
        done = _built(tmp_path, BUILDERS[count:], TORCH_INDEX="https://example.org/cpu", EXTRAS="cluster,track")
        assert done.returncode == 0 and done.stdout.startswith(starts[name]), done
        assert "--build-arg TORCH_INDEX=https://example.org/cpu --build-arg EXTRAS=cluster,track " in done.stdout
        (at,) = re.findall(r"--build-arg SOURCE_DATE_EPOCH=(\d+) ", done.stdout)
        assert done.stdout.endswith(f" . at {at}\n" if name == "docker" else " . at \n"), done.stdout
    none = _built(tmp_path, ())
    assert none.returncode == 2 and "no docker, podman or buildah that answers" in none.stderr and not none.stdout
    assert _built(tmp_path, (), BUILDER="docker").stdout.startswith(starts["docker"]), "who is named is not asked first"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"BASE_IMAGE": ""}, "BASE_IMAGE is not given"),
        ({"BASE_IMAGE": "python:3.12"}, "python:3.12 names no digest"),
        ({"BUILDER": "kaniko"}, "kaniko is not on the path"),
    ],
)
def test_what_cannot_be_built_is_one_refusal(given: dict[str, str], says: str, tmp_path: Path) -> None:
    done = _built(tmp_path, **given)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: ") and says in done.stderr
