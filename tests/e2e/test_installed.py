"""The wheel in an environment of its own, used from an empty folder: what it holds, and that it works there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import lehr
from lehr.cli.failure import EXTRAS
from lehr.pipeline.versions import versions
from tests.graph.source import ROOMS, ROOT, committed_files

pytestmark = pytest.mark.long
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
ABOUT = f"lehr-{lehr.__version__}.dist-info"
CUTS = (
    "stage1.tokens=8192", "stage1.schedule.warmup_tokens=2048", "ramp=null", "anneals=null", "posttraining=[]",
    "evaluation.tasks=[{task: prose, limit: 4}]", "tokenizer.training_characters=200_000",
)  # fmt: skip
VERSIONS = """
import json, lehr
from lehr.pipeline.versions import versions
print(json.dumps([lehr.__file__, versions()]))
"""


def _built(source: Path, kind: str, out: Path) -> Path:
    """What the build backend makes of a source tree: "wheel" as pip does it, or "sdist". Neither asks for the network."""
    if kind == "wheel":
        command = [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(out), "."]
    else:
        out.mkdir()
        command = [sys.executable, "-c", "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git holds, and from nothing that happens to lie beside it."""
    source = tmp_path_factory.mktemp("source")
    for path in committed_files():
        (copy := source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for link in (p for p in (ROOT / "lehr").iterdir() if p.is_symlink()):
        (source / "lehr" / link.name).symlink_to(link.readlink())
    sdist = _built(source, "sdist", tmp_path_factory.mktemp("out") / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(again := tmp_path_factory.mktemp("again"), filter="data")
        assert not [member.name for member in archive if member.issym() or member.islnk()]
    (unpacked,) = again.iterdir()
    from_sdist = _built(unpacked, "wheel", again / "wheel")
    made = _built(source, "wheel", again / "direct")
    assert _files(from_sdist) == _files(made) and from_sdist.name == made.name
    return made


def _files(wheel: Path) -> dict[str, int]:
    """Names and check sums of all but the list of them."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist() if not entry.filename.endswith("/RECORD")}


def test_the_wheel_adds_one_name_and_holds_all_files_of_the_rooms_and_their_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert archive.read(f"{ABOUT}/top_level.txt") == b"lehr\n"
        about = archive.read(f"{ABOUT}/METADATA").decode()
        assert b"lehr = lehr.cli.main:main" in archive.read(f"{ABOUT}/entry_points.txt")
    assert {name.split("/")[0] for name in names} == {"lehr", ABOUT}
    paths = [p.relative_to(ROOT) for p in committed_files() if p.name != "build_pack.py"]
    rooms = {str(p if p.parts[0] == "lehr" else "lehr" / p) for p in paths if p.parts[0] in (*ROOMS, "recipes")}
    assert {name for name in names if name.startswith("lehr/")} == rooms and "lehr/py.typed" in rooms
    licences = {f"{ABOUT}/licenses/{name}" for name in ("LICENSE", "lehr/recipes/data/LICENSE-PSF-2.0.txt")}
    assert licences <= names
    assert f"\nVersion: {lehr.__version__}\n" in about and "\nLicense-Expression: Apache-2.0 AND PSF-2.0\n" in about


HIDDEN = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda cls, name, *more: None if name.partition(".")[0] in {absent} else find(name, *more))
"""


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it depends on, without any extra. The dependencies are borrowed from the one that
    tests run in; the extras' packages there are hidden."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    install = ["--python", str(place / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*PIP, *install], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    assert {p.name for p in packages.iterdir()} == {"lehr", ABOUT}
    (packages / "hidden.py").write_text(HIDDEN.format(absent=set(EXTRAS)))
    # A path in a .pth file is searched, and .pth files in it are not: the checkout's own `lehr` is not found by it.
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport hidden\n")
    return place


class _Elsewhere:
    """Commands of the installed Lehr, given in an empty folder."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self.bin, self.folder = installed / "bin", folder
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "LEHR_CACHE")}
        self.environment = kept | {"HOME": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def __call__(self, line: str, *sets: str, code: int = 0) -> str:
        """What a command with these --set values prints, on standard error where its exit code shall not be 0."""
        program, *arguments = [*shlex.split(line), *(word for value in sets for word in ("--set", value))]
        command = [str(self.bin / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, (line, done.stderr[-3000:])
        return done.stderr if code else done.stdout

    def lineage(self, run: str) -> dict[str, tuple[str, str]]:
        """Fingerprint and digest of each stage."""
        rows = json.loads((self.folder / run / "lineage.json").read_text())
        return {row["stage"]: (row["fingerprint"], row["digest"]) for row in rows}


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> _Elsewhere:
    return _Elsewhere(installed, tmp_path)


def test_stages_have_the_fingerprints_that_they_have_in_the_checkout(elsewhere: _Elsewhere) -> None:
    place, found = json.loads(elsewhere(f"python -c {shlex.quote(VERSIONS)}"))
    assert Path(place).is_relative_to(elsewhere.bin.parent)
    assert found == versions()
    assert elsewhere("lehr --version") == f"lehr, version {lehr.__version__}\n"


def test_shipped_recipes_are_listed_checked_and_run(elsewhere: _Elsewhere) -> None:
    """A run of the shipped recipe cut to seconds, on its two ranks; its copy has the same fingerprints, so that nothing is made
    anew."""
    assert "tiny/olmo2" in elsewhere("lehr recipes")
    assert "name: tiny-olmo2" in elsewhere("lehr validate tiny/olmo2")
    assert "GPU-hours" in elsewhere("lehr plan released/olmo2-13b --on hardware/jupiter")
    assert "activation_exponent" in elsewhere("lehr diagnose init --widths 64 --layers 2 --documents 2 --json")
    said = elsewhere("lehr run tiny/olmo2", *CUTS)
    assert said.count("MLflow is not installed") == 1 and "the export was not compared" in said and "  stage1: started" in said
    made = elsewhere.lineage("runs/tiny-olmo2")
    assert "stage1" in made and (elsewhere.folder / "runs/tiny-olmo2/report.html").is_file()
    elsewhere("lehr recipes copy tiny/olmo2 mine")
    again = elsewhere("lehr run mine/tiny/olmo2.yaml --out runs/tiny-olmo2 --no-mlflow", *CUTS)
    assert elsewhere.lineage("runs/tiny-olmo2") == made and ": started" not in again


def test_a_first_recipe_is_written_and_runs(elsewhere: _Elsewhere) -> None:
    elsewhere("lehr recipes copy tiny/olmo2")
    elsewhere("lehr init mine --data recipes/data/novel.jsonl.gz")
    cuts = ("stage1.tokens=8192", "stage1.schedule.warmup_tokens=2048", "anneals.tokens=2048")
    elsewhere("lehr run mine/recipe.yaml", *cuts)
    assert "soup" in elsewhere.lineage("runs/mine")
    assert "finished" in elsewhere("lehr list")


def test_other_rooms_are_there_and_say_which_extra_they_lack(elsewhere: _Elsewhere) -> None:
    assert elsewhere("python -m lehr.infra.pod.supervisor python -c 'print(7)'") == "7\n"
    assert "as pinned" in elsewhere("lehr doctor")
    assert "restart-only" in elsewhere("lehr simulate fleet --gpus 1024 --seeds 2 --days 1 --checkpoint-minutes 30")
    for command, extra in (("lehr nodes list", "cluster"), ("lehr run tiny/olmo2 --out s3://bucket/run", "cluster")):
        said = elsewhere(command, code=2)
        assert said.startswith("error: the package ") and f"pip install 'lehr[{extra}]'" in said and said.count("\n") == 1
